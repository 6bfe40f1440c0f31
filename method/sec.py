"""SEC: seed, expand and constrain (Kolesnikov and Lampert, ECCV 2016).

A DeepLab-LargeFOV network learns from localization cues under three losses. The seeding loss
follows the cues. The expansion loss asks each tagged class for a plausible share of the image and
absent classes for none. The constrain-to-boundary loss pulls the scores to what a dense CRF makes
of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from base import IGNORE, UserError
from base.contract import Context
from base.recipe import Data, Flat, Prediction, Solver
from base.tensor import shrink
from datalist.cue import CueFile
from datalist.dataset import Images
from loss import constrain_loss, decay_for, expand_loss, floor_softmax, seed_loss
from method.backbone import SMALL_RESNET, SMALL_VGG16, VGG16, Backbone, ResNet
from method.head import Head, LargeFOVHead, segmentation_network
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
from method.smoke import with_smoke
from method.stage import Stage, each_view, mean_score


@dataclass(frozen=True)
class SECLosses:
    """The three losses as released."""

    cue: str = ""
    """Cue file (.npz, or the official localization_cues.pickle.gz), or a folder of cues as masks,
    ID.png with 255 where there is no cue."""
    tags_from: Literal["auto", "cue", "dataset"] = "auto"
    """Image-level tags: of the cues (the classes that have some) or of the data set; auto: of the
    cues where they are a released pickle, as in the released code."""
    floor: float = 1e-4
    """Added to each probability before the losses (min_prob of the released layers)."""
    decay_foreground: float = 0.996
    """Rank-pooling decay of tagged classes (paper), on a grid of `decay_grid`."""
    decay_background: float = 0.999
    """Rank-pooling decay of the background (paper), on a grid of `decay_grid`."""
    decay_grid: tuple[int, int] = (41, 41)
    """Grid of the two decays; on other grids the share of pixels with half the weight is kept."""
    seed_weight: float = 1.0
    """Weight of the seeding loss (paper); 0 leaves it out."""
    expand_weight: float = 1.0
    """Weight of the expansion loss (paper); 0 leaves it out."""
    constrain_weight: float = 1.0
    """Weight of the constrain-to-boundary loss (paper); 0 leaves it out."""


@dataclass(frozen=True)
class SECRecipe:
    """SEC on VGG16; defaults are those of the released solver.prototxt and train.prototxt."""

    data: Flat[Data] = Data()
    solver: Flat[Solver] = Solver()
    backbone: Flat[Backbone] = VGG16()
    head: Flat[Head] = LargeFOVHead()
    sec: Flat[SECLosses] = SECLosses()
    train_crf: Flat[TrainCRF] = TrainCRF()
    prediction: Flat[Prediction] = SEC_TEST


PAPER = SECRecipe()
MXNET = replace(
    PAPER,
    data=Data(size=(320, 320), mirror=True),
    head=LargeFOVHead(dropout=0.0),
    prediction=Prediction(test_mirror=True, test_crf="sec-mxnet"),
)
"""ascust/SEC-MXNet on VGG16 (cores/config.py)."""
RESNET50_AT_8 = ResNet(stride=(2, 2, 2, 1, 1), dilation=(1, 1, 2, 4), norm=False)
"""ResNet-50 at stride 8 with frozen statistics (symbols of SEC-MXNet)."""
SMALL = SECRecipe(
    data=SMALL_DATA,
    solver=SMALL_SOLVER,
    backbone=SMALL_VGG16,
    head=LargeFOVHead(hidden=128, rate=6, dropout=0.1),
    prediction=replace(SEC_TEST, test_crf_scale=4.0),
)
SMALL_RESNET50 = replace(SMALL_RESNET, dilation=(1, 1, 2, 4))


PHOTO = SECRecipe(
    data=PHOTO_DATA,
    solver=PHOTO_SOLVER,
    backbone=PHOTO_BACKBONE,
    head=PHOTO_HEAD,
    train_crf=TrainCRF(crf_scale=None),
    prediction=PHOTO_TEST,
)


class SEC(Stage):
    """DeepLab-LargeFOV under the three losses."""

    recipes: ClassVar = with_smoke(
        {
            "paper": PAPER,
            "mxnet": MXNET,
            "paper-resnet50": replace(MXNET, backbone=RESNET50_AT_8, head=LargeFOVHead(hidden=512)),
            "small": SMALL,
            "small-resnet50": replace(SMALL, backbone=SMALL_RESNET50),
            "photo": PHOTO,
        }
    )

    def __init__(self, recipe: SECRecipe, spec):
        super().__init__(
            recipe, spec, segmentation_network(recipe.backbone, recipe.head, spec.num_classes)
        )
        self.refinement = Refinement(recipe.train_crf)

    def dataset(self) -> Images:
        return cue_images(self, self.recipe.sec.cue, self.recipe.sec.tags_from)

    def losses(self, batch: dict, context: Context) -> dict[str, Tensor]:
        sec = self.recipe.sec
        logit = context.run(self.network, batch["image"])
        if sec.constrain_weight:
            marginals = self.refinement.start(batch["image"], logit, context)
        score = floor_softmax(logit, sec.floor)
        terms = {}
        if sec.seed_weight:
            terms["seed"] = sec.seed_weight * seed_loss(score, cues_of(batch, logit))
        if sec.expand_weight:
            reference, positions = math.prod(sec.decay_grid), math.prod(logit.shape[-2:])
            terms["expand"] = sec.expand_weight * expand_loss(
                score,
                batch["tag"],
                decay_for(sec.decay_foreground, reference, positions),
                decay_for(sec.decay_background, reference, positions),
            )
        if sec.constrain_weight:
            constrain = constrain_loss(score, marginals(), sec.floor)
            terms["constrain"] = sec.constrain_weight * constrain
        return {name: context.weight * term for name, term in terms.items()}

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        logit = self.network(batch["image"])
        cue = cues_of(batch, logit)
        return {
            "prediction": logit.argmax(1),
            "cue": torch.where(cue.any(1), cue.float().argmax(1), IGNORE),
        }

    def predict(self, images: list[Tensor], tags: Tensor | None, mirror: bool) -> Tensor:
        return mean_score(each_view(softmax_score(self.network), images, mirror))


def softmax_score(network: nn.Module):
    """Scores (N, C, h, w) of images, from a network that gives logits."""
    return lambda image: torch.softmax(network(image), dim=1)


TagSource = Literal["auto", "cue", "dataset"]


def cue_images(stage: Stage, cue: str, tags_from: TagSource) -> Images:
    """Training images with their cues.

    Args:
        stage: its recipe says how images become inputs.
        cue: cue file, or folder of cues as masks.
        tags_from: "cue" takes the classes that have cues as the image's tags, "dataset" those of
            the data set; "auto" is "cue" for a released pickle. VOC's XML has 987 tags of difficult
            objects that the released cues lack, and no cue supports them.

    Errors: UserError for no cues, or a cue file under a recipe that cuts images.
    """
    if not cue:
        raise UserError("this stage learns from cues: give --cue FILE (script/cue.sh makes one)")
    fit = stage.recipe.data.fit
    if fit != "warp" and Path(cue).is_dir():
        return stage.images(mask=cue)
    if fit != "warp":
        raise UserError(
            f"{cue} holds cues of whole images, and --fit {fit} cuts them: give --fit warp, or a "
            "folder of cues as masks"
        )
    with torch.no_grad():
        image = torch.zeros(1, 3, *stage.recipe.data.size)
        grid = tuple(stage.network.eval()(image).shape[-2:])
        stage.network.train()
    cues = CueFile.open(cue)
    images = stage.images(cue=cues, grid=grid)
    released = Path(cue).is_file() and Path(cue).suffix != ".npz"
    if tags_from == "cue" or (tags_from == "auto" and released):
        own = {name: tuple(k for k in cues.classes(name) if k) for name in images.ids}
        other = sum(set(own[name]) != set(images.tags[name]) for name in images.ids)
        print(f"tags are the classes with cues; on {other} images the data set has others")
        images.tags = own
    return images


def cues_of(batch: dict, logit: Tensor) -> Tensor:
    """Cues of a batch on the grid of its logits, bool (N, C, h, w)."""
    if "cue" in batch:
        return batch["cue"]
    mask = shrink(batch["mask"], logit.shape[-2:])
    return mask[:, None] == torch.arange(logit.shape[1], device=mask.device).view(1, -1, 1, 1)
