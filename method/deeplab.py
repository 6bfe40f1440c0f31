"""Multi-stage segmentation: a DeepLab-v3+ learns from the masks that another method made.

Chen et al., ECCV 2018, on ResNet-101. RecurSeed and EdgePredictMix, DHR and others report their
last stage with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from base.tensor import resize
from method.recipe import SMALL_BASE, SMALL_RESNET_PLUS, SMOKE_RESNET_PLUS, ResNetRecipe
from method.supervised import Pseudo, PseudoRecipe, segment_loss
from network.deeplabv3 import DeepLabV3Plus


@dataclass(frozen=True)
class DeepLabRecipe(ResNetRecipe, PseudoRecipe):
    """ResNet-101 at stride 16; solver as of the authors' next paper (shjo-april/DHR) [inferred]."""

    depth: tuple[int, ...] = (1, 3, 4, 23, 3)
    """Convolutions of the stem, blocks of the four stages (ResNet-101)."""
    low: int = 48
    """Channels that the first stage's features are reduced to (released)."""
    steps: int = 33000
    """Optimiser steps: 50 epochs of train_aug, ours."""
    batch: int = 16
    """Images a step (DHR) [inferred]."""
    size: tuple[int, int] = (512, 512)
    """Height and width of the crop, pixels (DHR) [inferred]."""
    scale: tuple[float, float] | None = (0.5, 2.0)
    """Range of the factor to the image's own size before the crop, DeepLab's."""
    mirror: bool = True
    """Flip half of the training images, with their masks."""
    lr: float = 1e-3
    """Base learning rate (DHR) [inferred]."""
    weight_decay: float = 4e-5
    """Weight decay (DHR) [inferred]."""
    decay_biases: bool = True
    """Whether biases and normalisation layers decay too (DHR) [inferred]."""
    bias_factor: float = 1.0
    """Learning rate of biases over that of weights (DHR) [inferred]."""
    policy: Literal["step", "poly", "cosine"] = "poly"
    """How the learning rate falls (DHR) [inferred]."""
    least: float = 0.05
    """At test, a class that nowhere reaches this probability is left out (infer_seg.py)."""


SMALL_DEEPLAB = {**SMALL_BASE, **SMALL_RESNET_PLUS, "steps": 500}


class DeepLab(Pseudo):
    """Cross entropy on masks at their full size.

    Source: core/networks.py of the released RecurSeed code (last convolution 3 x 3 without bias).
    Differs: stride 16 at test too.
    """

    recipes: ClassVar = {
        "paper": DeepLabRecipe(),
        "small": DeepLabRecipe(**SMALL_DEEPLAB),
        "smoke": DeepLabRecipe(**{**SMALL_DEEPLAB, **SMOKE_RESNET_PLUS}),
    }

    def __init__(self, recipe, spec):
        super().__init__(recipe, spec)
        self.fit = recipe.fit
        self.network = DeepLabV3Plus(
            spec.num_classes, recipe.low, recipe.hidden, recipe.rates, recipe.dropout,
            kernel=3, bias=False, **recipe.trunk(),
        )  # fmt: skip

    def merge(self, scores: list[Tensor]) -> Tensor:
        """Mean of all scales; classes that stay below `least` everywhere become 0."""
        score = super().merge(scores)
        return score * (score.amax(dim=(2, 3), keepdim=True) >= self.recipe.least)

    def losses(self, batch: dict, step: int) -> dict[str, Tensor]:
        logit = self.forward(batch["image"])
        mask = batch["mask"]
        return {"segment": segment_loss(resize(logit, mask.shape[-2:]), mask, self)}
