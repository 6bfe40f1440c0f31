"""DSRG: deep seeded region growing (Huang et al., CVPR 2018).

Step 1 (`DSRG`): the localization cues are seeds. At every step they grow, from where they began,
to the connected positions that the network's CRF-refined scores are sure of; the balanced seeding
loss learns the grown seeds, the boundary loss follows the CRF. Step 2 (`Retrain`): the network of
step 1 labels its training images, restricted to their tags, and learns from these masks as if
they were true.

The published background cues come from the saliency method DRFI, which is not available. Here they
come from our own background cue network, or from any folder of saliency maps
(`python -m datalist.saliency`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from base import IGNORE
from base.contract import Context
from base.recipe import Data, Flat, Prediction, Solver
from base.tensor import shrink
from datalist.dataset import Images
from loss import balanced_seed_loss, constrain_loss, floor_softmax
from method.backbone import SMALL_VGG16, VGG16, Backbone
from method.head import Head, PyramidHead, segmentation_network
from method.preset import (
    PHOTO_BACKBONE,
    PHOTO_DATA,
    PHOTO_HEAD,
    PHOTO_SOLVER,
    PHOTO_TEST,
    SEC_TEST,
    SMALL_DATA,
    SMALL_SOLVER,
)
from method.refinement import Refinement, TrainCRF
from method.sec import RESNET50_AT_8, SMALL_RESNET50, cue_images, cues_of, softmax_score
from method.smoke import with_smoke
from method.stage import Stage, each_view, softmax_of_sum
from method.supervised import PseudoMasks, load_start, mask_panels, pseudo_images, segment_loss
from refine import grow_seeds

DSRG_TEST = replace(SEC_TEST, test_scales=(0.75, 1.0, 1.25))
"""test-ms.py (241, 321 and 401 pixels) and test-ms-f.py."""


@dataclass(frozen=True)
class DSRGLosses:
    """Growing and its two losses, as released."""

    cue: str = ""
    """Cue file of the seeds (.npz, or a released pickle), or a folder of them as masks, ID.png with
    255 where there is no seed."""
    tags_from: Literal["auto", "cue", "dataset"] = "auto"
    """Image-level tags: of the cues (the classes that have some) or of the data set; auto: of the
    cues where they are a released pickle, as in the released code."""
    floor: float = 1e-4
    """Added to each probability, and smallest CRF marginal (min_prob of the released layers)."""
    grow: bool = True
    """Grow the seeds at each step; without, the cues stay as they are (the paper's baseline)."""
    threshold_foreground: float = 0.85
    """Growing: a tagged class must score above this (released layer)."""
    threshold_background: float = 0.99
    """Growing: the background must score above this (released layer)."""
    clip: tuple[float, float] = (0.05, 20.0)
    """Bounds of the boundary loss's ratio of marginal to score (released layer)."""


@dataclass(frozen=True)
class DSRGRecipe:
    """Step 1 as released: solver-s.prototxt and train-s.prototxt."""

    data: Flat[Data] = Data(mirror=True)
    solver: Flat[Solver] = Solver(batch=20, lr=5e-4, decay_every=1000, decay_factor=0.33)
    backbone: Flat[Backbone] = VGG16()
    head: Flat[Head] = PyramidHead()
    dsrg: Flat[DSRGLosses] = DSRGLosses()
    train_crf: Flat[TrainCRF] = TrainCRF(crf_input="score")
    prediction: Flat[Prediction] = DSRG_TEST


PAPER = DSRGRecipe()
RESNET101 = replace(RESNET50_AT_8, blocks=(3, 4, 23, 3))
"""DeepLab-v2 on ResNet-101 at stride 8. The paper reports it; its files were not released."""
SMALL = DSRGRecipe(
    data=SMALL_DATA,
    solver=SMALL_SOLVER,
    backbone=SMALL_VGG16,
    head=PyramidHead(hidden=64, rates=(3, 6, 9, 12), dropout=0.1),
    prediction=replace(DSRG_TEST, test_crf_scale=4.0),
)


PHOTO = DSRGRecipe(
    data=PHOTO_DATA,
    solver=PHOTO_SOLVER,
    backbone=PHOTO_BACKBONE,
    head=PHOTO_HEAD,
    train_crf=TrainCRF(crf_scale=None, crf_input="score"),
    prediction=PHOTO_TEST,
)


class DSRG(Stage):
    """Step 1: a four-branch DeepLab under seeds that grow."""

    recipes: ClassVar = with_smoke(
        {
            "paper": PAPER,
            "paper-resnet101": replace(PAPER, backbone=RESNET101),
            "small": SMALL,
            "small-resnet101": replace(SMALL, backbone=SMALL_RESNET50),
            "photo": PHOTO,
        }
    )

    def __init__(self, recipe: DSRGRecipe, spec):
        super().__init__(
            recipe, spec, segmentation_network(recipe.backbone, recipe.head, spec.num_classes)
        )
        self.refinement = Refinement(recipe.train_crf)

    def dataset(self) -> Images:
        return cue_images(self, self.recipe.dsrg.cue, self.recipe.dsrg.tags_from)

    def targets(self, batch: dict, score: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """CRF marginals of floored scores, and the seeds of a batch, grown by them.

        Returns:
            Marginals, (N, C, h, w), floored and normalised; seeds, bool (N, C, h, w).
        """
        dsrg = self.recipe.dsrg
        logit = score.detach().log()  # the floor stays in
        with context.timer("crf"):
            marginal = self.refinement.marginals(batch["image"], logit).clamp_min(dsrg.floor)
        marginal = marginal / marginal.sum(dim=1, keepdim=True)
        seed = cues_of(batch, score)
        if dsrg.grow:
            seed = grow_seeds(
                marginal,
                seed,
                batch["tag"],
                dsrg.threshold_foreground,
                dsrg.threshold_background,
            )
        return marginal, seed

    def losses(self, batch: dict, context: Context) -> dict[str, Tensor]:
        dsrg = self.recipe.dsrg
        score = floor_softmax(context.run(self.network, batch["image"]), dsrg.floor)
        marginal, seed = self.targets(batch, score, context)
        return {
            "seed": context.weight * balanced_seed_loss(score, seed),
            "constrain": context.weight * constrain_loss(score, marginal, 0, dsrg.clip),
        }

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        """The seeds as given, as grown, and the prediction."""
        score = floor_softmax(self.network(batch["image"]), self.recipe.dsrg.floor)
        _, grown = self.targets(batch, score, Context())
        return {
            "seed": class_map(cues_of(batch, score)),
            "grown seed": class_map(grown),
            "prediction": score.argmax(1),
        }

    def predict(self, images: list[Tensor], tags: Tensor | None, mirror: bool) -> Tensor:
        return softmax_of_sum(each_view(softmax_score(self.network), images, mirror))


@dataclass(frozen=True)
class RetrainRecipe:
    """Step 2 as released: solver-f.prototxt and train-f.prototxt."""

    data: Flat[Data] = Data(fit="crop", mirror=True)
    solver: Flat[Solver] = Solver(steps=20000, batch=10, policy="poly")
    backbone: Flat[Backbone] = VGG16()
    head: Flat[Head] = PyramidHead()
    masks: Flat[PseudoMasks] = PseudoMasks()
    prediction: Flat[Prediction] = DSRG_TEST


# Objects of `scenes` on three test scales: a network from scratch must have seen them so.
SMALL_RETRAIN = RetrainRecipe(
    data=replace(SMALL_DATA, fit="crop", scale=(0.75, 1.25)),
    solver=replace(SMALL_SOLVER, steps=800),
    backbone=SMALL.backbone,
    head=SMALL.head,
    prediction=SMALL.prediction,
)


class Retrain(Stage):
    """Step 2: cross entropy on the masks that step 1 predicts, in crops of the image's own size."""

    recipes: ClassVar = with_smoke(
        {
            "paper": RetrainRecipe(),
            "paper-resnet101": RetrainRecipe(backbone=RESNET101),
            "small": SMALL_RETRAIN,
            "small-resnet101": replace(SMALL_RETRAIN, backbone=SMALL_RESNET50),
            "photo": RetrainRecipe(
                PHOTO_DATA, PHOTO_SOLVER, PHOTO_BACKBONE, PHOTO_HEAD, prediction=PHOTO_TEST
            ),
        }
    )

    def __init__(self, recipe: RetrainRecipe, spec):
        super().__init__(
            recipe, spec, segmentation_network(recipe.backbone, recipe.head, spec.num_classes)
        )

    def load(self):
        return load_start(self, self.recipe.masks.start)

    def dataset(self) -> Images:
        return pseudo_images(self, self.recipe.masks)

    def losses(self, batch: dict, context: Context) -> dict[str, Tensor]:
        logit = context.run(self.network, batch["image"])
        return {"segment": segment_loss(logit, shrink(batch["mask"], logit.shape[-2:]), context)}

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        return mask_panels(self, batch)

    def predict(self, images: list[Tensor], tags: Tensor | None, mirror: bool) -> Tensor:
        return softmax_of_sum(each_view(softmax_score(self.network), images, mirror))


def class_map(seed: Tensor) -> Tensor:
    """Class of each seed of (N, C, h, w), of several the highest; `IGNORE` elsewhere; (N, h, w)."""
    index = torch.arange(seed.shape[1], device=seed.device).view(1, -1, 1, 1)
    highest = torch.where(seed, index, -1).amax(dim=1)
    return torch.where(highest < 0, IGNORE, highest)
