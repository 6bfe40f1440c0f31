"""Learning from masks: the true ones, which is the ceiling, or those that another network made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from base import IGNORE, UserError
from base.contract import Context
from base.recipe import Data, Flat, Prediction, Solver
from base.tensor import shrink
from datalist.dataset import Images
from method.backbone import VGG16, Backbone
from method.head import Head, LargeFOVHead, segmentation_network
from method.preset import (
    PHOTO_BACKBONE,
    PHOTO_DATA,
    PHOTO_HEAD,
    PHOTO_SOLVER,
    PHOTO_TEST,
    SEC_TEST,
)
from method.sec import MXNET, RESNET50_AT_8, SMALL, SMALL_RESNET50, softmax_score
from method.smoke import with_smoke
from method.stage import Stage, each_view, mean_score
from network.weight import load_all


@dataclass(frozen=True)
class Masks:
    """Masks to learn from."""

    mask_folder: str = ""
    """Folder of masks, ID.png; empty: the data set's true masks."""


@dataclass(frozen=True)
class SupervisedRecipe:
    """SEC's network and solver on masks."""

    data: Flat[Data] = Data()
    solver: Flat[Solver] = Solver()
    backbone: Flat[Backbone] = VGG16()
    head: Flat[Head] = LargeFOVHead()
    masks: Flat[Masks] = Masks()
    prediction: Flat[Prediction] = SEC_TEST


SMALL_SUPERVISED = SupervisedRecipe(
    SMALL.data, SMALL.solver, SMALL.backbone, SMALL.head, prediction=SMALL.prediction
)


class Supervised(Stage):
    """Cross entropy on true masks at the network's own resolution."""

    recipes: ClassVar = with_smoke(
        {
            "paper": SupervisedRecipe(),
            "mxnet": SupervisedRecipe(MXNET.data, head=MXNET.head, prediction=MXNET.prediction),
            "paper-resnet50": SupervisedRecipe(
                MXNET.data,
                backbone=RESNET50_AT_8,
                head=LargeFOVHead(hidden=512),
                prediction=MXNET.prediction,
            ),
            "small": SMALL_SUPERVISED,
            "small-resnet50": replace(SMALL_SUPERVISED, backbone=SMALL_RESNET50),
            "photo": SupervisedRecipe(
                PHOTO_DATA,
                replace(PHOTO_SOLVER, epochs=10),
                PHOTO_BACKBONE,
                PHOTO_HEAD,
                prediction=PHOTO_TEST,
            ),
        }
    )

    def __init__(self, recipe: SupervisedRecipe, spec):
        super().__init__(
            recipe, spec, segmentation_network(recipe.backbone, recipe.head, spec.num_classes)
        )

    def dataset(self) -> Images:
        return self.images(mask=self.recipe.masks.mask_folder or self.spec.mask_folder)

    def losses(self, batch: dict, context: Context) -> dict[str, Tensor]:
        logit = context.run(self.network, batch["image"])
        return {"segment": segment_loss(logit, shrink(batch["mask"], logit.shape[-2:]), context)}

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        return mask_panels(self, batch)

    def predict(self, images: list[Tensor], tags: Tensor | None, mirror: bool) -> Tensor:
        return mean_score(each_view(softmax_score(self.network), images, mirror))


# -- what stages that learn from another network's masks share ----------------------------------


@dataclass(frozen=True)
class PseudoMasks:
    """Masks of another network, and where to start."""

    mask: str = ""
    """Folder of masks to learn from, ID.png."""
    start: str = ""
    """Checkpoint of the same network to start from; empty: the backbone's weights alone."""


def pseudo_images(stage: Stage, masks: PseudoMasks) -> Images:
    """Training images with the masks of a folder.

    Errors: UserError where no folder is given.
    """
    if not masks.mask:
        raise UserError(
            "this stage learns from masks: give --mask FOLDER of ID.png, such as test.py and "
            "the chains in script/ make"
        )
    return stage.images(tag=False, mask=masks.mask)


def load_start(stage: Stage, start: str):
    """Start from a checkpoint of the same network, or else from the backbone's weights."""
    if start:
        return load_all(stage.network, start)
    return stage.recipe.backbone.load(stage.network)


def mask_panels(stage: Stage, batch: dict) -> dict[str, Tensor]:
    """The masks learned from, and the prediction."""
    return {"mask": batch["mask"], "prediction": stage.network(batch["image"]).argmax(1)}


def segment_loss(logit: Tensor, mask: Tensor, context: Context) -> Tensor:
    """Cross entropy of logits (N, C, h, w) and masks (N, h, w), mean over the valid pixels.

    The pixels of all processes count alike.
    """
    loss = nn.functional.cross_entropy(logit, mask, ignore_index=IGNORE, reduction="sum")
    return loss / context.mean((mask != IGNORE).sum().float()).clamp_min(1)
