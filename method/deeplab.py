"""Multi-stage segmentation: a DeepLab-v3+ learns from the masks that another method made.

Chen et al., ECCV 2018, on ResNet-101. RecurSeed and EdgePredictMix, DHR and others report their
last stage with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from base.contract import Context
from base.recipe import Data, Flat, Prediction, Solver
from base.tensor import resize
from datalist.dataset import Images
from method.backbone import SMALL_RESNET, Backbone, ResNet
from method.head import DecoderHead, Head, segmentation_network
from method.preset import (
    PHOTO_BACKBONE,
    PHOTO_DATA,
    PHOTO_HEAD,
    PHOTO_SOLVER,
    PHOTO_TEST,
    SMALL_DATA,
    SMALL_SOLVER,
)
from method.sec import softmax_score
from method.smoke import with_smoke
from method.stage import Stage, each_view, mean_score
from method.supervised import PseudoMasks, load_start, mask_panels, pseudo_images, segment_loss

DHR_SOLVER = Solver(
    steps=None,
    epochs=100,
    batch=16,
    lr=1e-3,
    bias_factor=1.0,
    weight_decay=4e-5,
    decay_all=True,
    policy="poly",
)
"""Solver of the authors' next paper (shjo-april/DHR) [inferred for this one]."""


RECURSEED_TEST = Prediction((1.0, 0.5, 1.5, 2.0), True, "deeplab")
"""Scales, mirror and CRF of the released RecurSeed inference."""


@dataclass(frozen=True)
class Faint:
    """Classes left out at test."""

    least: float = 0.05
    """A class that nowhere reaches this probability is left out (released infer_seg.py)."""


@dataclass(frozen=True)
class DeepLabRecipe:
    """ResNet-101 at stride 16; crop and solver as in shjo-april/DHR [inferred]; the scales are
    DeepLab's."""

    data: Flat[Data] = Data(size=(512, 512), fit="crop", scale=(0.5, 2.0), mirror=True)
    solver: Flat[Solver] = replace(DHR_SOLVER, epochs=50)  # 50 epochs: ours
    backbone: Flat[Backbone] = ResNet(blocks=(3, 4, 23, 3))
    head: Flat[Head] = DecoderHead(low=48)
    masks: Flat[PseudoMasks] = PseudoMasks()
    faint: Flat[Faint] = Faint()
    prediction: Flat[Prediction] = RECURSEED_TEST


SMALL_HEAD = DecoderHead(low=24, hidden=48, rates=(2, 4, 6), dropout=0.1)
SMALL_PREDICTION = Prediction((0.75, 1.0, 1.25), True, "deeplab", 4.0)


class DeepLab(Stage):
    """Cross entropy on masks at their full size.

    Source: core/networks.py of the released RecurSeed code (last convolution 3 x 3 without bias).
    Differs: stride 16 at test too.
    """

    recipes: ClassVar = with_smoke(
        {
            "paper": DeepLabRecipe(),
            "small": DeepLabRecipe(
                data=SMALL_DATA,
                solver=replace(SMALL_SOLVER, steps=500),
                backbone=SMALL_RESNET,
                head=SMALL_HEAD,
                prediction=SMALL_PREDICTION,
            ),
            "photo": DeepLabRecipe(
                PHOTO_DATA, PHOTO_SOLVER, PHOTO_BACKBONE, PHOTO_HEAD, prediction=PHOTO_TEST
            ),
        }
    )

    def __init__(self, recipe: DeepLabRecipe, spec):
        network = segmentation_network(recipe.backbone, recipe.head, spec.num_classes)
        super().__init__(recipe, spec, network)

    def load(self):
        return load_start(self, self.recipe.masks.start)

    def dataset(self) -> Images:
        return pseudo_images(self, self.recipe.masks)

    def losses(self, batch: dict, context: Context) -> dict[str, Tensor]:
        logit = context.run(self.network, batch["image"])
        mask = batch["mask"]
        return {"segment": segment_loss(resize(logit, mask.shape[-2:]), mask, context)}

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        return mask_panels(self, batch)

    def predict(self, images: list[Tensor], tags: Tensor | None, mirror: bool) -> Tensor:
        """Mean over scales and mirror images; a class that stays faint everywhere becomes 0."""
        score = mean_score(each_view(softmax_score(self.network), images, mirror))
        return score * (score.amax(dim=(2, 3), keepdim=True) >= self.recipe.faint.least)
