"""DSRG: deep seeded region growing (Huang et al., CVPR 2018).

Step 1 (`DSRG`): the localization cues are seeds. At every step they grow, from where they began,
to the connected positions that the network's CRF-refined scores are sure of; the balanced seeding
loss learns the grown seeds, the boundary loss follows the CRF. Step 2 (`Retrain`): the network of
step 1 labels its training images, restricted to their tags, and learns from these masks as if
they were true.

The published background cues come from the saliency method DRFI, which is not to be had. Here they
come from our own background cue network, or from any folder of saliency maps
(`python -m datalist.saliency`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

import densecrf
from base import IGNORE
from loss import balanced_seed_loss, constrain_loss, floor_softmax
from method.recipe import SMALL, SMALL_RESNET, SMOKE, VGGRecipe
from method.sec import SEC
from method.stage import Stage
from method.supervised import Pseudo, PseudoRecipe
from network.deeplabv2 import RATES, ResNetPyramid, VGGPyramid
from refine import grow_seeds


@dataclass(frozen=True)
class PyramidRecipe(VGGRecipe):
    """What both steps share: the network and the CRF at test."""

    backbone: Literal["vgg16", "resnet101"] = "vgg16"
    """Trunk; the paper has both. `hidden` and `dropout` shape VGG16's branches alone."""
    weights: str = "torchvision"
    """Start from: none, torchvision, timm:NAME, or a state dict (the paper: VGG16 with fc6 and fc7
    reduced)."""
    rates: tuple[int, ...] = RATES
    """Dilation of each branch's fc6 (train-s.prototxt)."""
    crf: str = "sec-test"
    """CRF preset, widths in pixels of a full-size image (krahenbuhl2013 wrapper)."""
    test_crf: str = ""
    """CRF preset at test; empty: as `crf`."""
    test_crf_scale: float = 1.0
    """Divides the CRF's widths at test (test-ms.py)."""


@dataclass(frozen=True)
class DSRGRecipe(PyramidRecipe):
    """Step 1 as released: solver-s.prototxt and train-s.prototxt."""

    cue: str = ""
    """Cue file of the seeds (.npz, or a released pickle)."""
    batch: int = 20
    """Images a step (train-s.prototxt)."""
    lr: float = 5e-4
    """Base learning rate (solver-s.prototxt)."""
    decay_every: int = 1000
    """Steps between two cuts (solver-s.prototxt)."""
    decay_factor: float = 0.33
    """What a cut multiplies the learning rate by (solver-s.prototxt)."""
    mirror: bool = True
    """Flip half of the training images, with their cues."""
    floor: float = 1e-4
    """Added to each probability, and smallest CRF marginal (min_prob of the released layers)."""
    grow: bool = True
    """Grow the seeds at each step; without, the cues stay as they are (the paper's baseline)."""
    threshold_foreground: float = 0.85
    """Growing: a tagged class must score above this (released layer)."""
    threshold_background: float = 0.99
    """Growing: the background must score above this (released layer)."""
    crf_input: Literal["score", "logit"] = "score"
    """What the CRF takes for negative energies at training. The released layer feeds
    probabilities: energies then span 1 at most and smoothing dominates. "logit" is the CRF's own
    definition, up to the floor."""
    crf_scale: float = 12.0
    """Divides the CRF's widths at training (the released layer; the grid is about 1 / 8)."""
    crf_steps: int = 10
    """Mean-field iterations at training."""
    clip: tuple[float, float] = (0.05, 20.0)
    """Bounds of the boundary loss's ratio of marginal to score (released layer)."""


RESNET101 = {
    "backbone": "resnet101",
    "width": (64, 64, 128, 256, 512),
    "depth": (1, 3, 4, 23, 3),
    "dilation": (1, 1, 1, 2, 4),
}
"""DeepLab-v2 on ResNet-101 at stride 8. The paper reports it; its files were not released."""

SMALL_DSRG = {
    **SMALL,
    "weights": "none",
    "pool": (2, 2, 1, 1, 1),
    "hidden": 64,
    "rates": (3, 6, 9, 12),
    "test_crf_scale": 4.0,
}
SMALL_RESNET101 = {**SMALL_RESNET, "backbone": "resnet101", "dilation": (1, 1, 1, 2, 4)}


class DSRG(SEC):
    """Step 1: a four-branch DeepLab under seeds that grow."""

    recipes: ClassVar = {
        "paper": DSRGRecipe(),
        "paper-resnet101": DSRGRecipe(**RESNET101),
        "small": DSRGRecipe(**SMALL_DSRG),
        "small-resnet101": DSRGRecipe(**{**SMALL_DSRG, **SMALL_RESNET101}),
        "smoke": DSRGRecipe(**{**SMALL_DSRG, **SMOKE}),
        "smoke-resnet101": DSRGRecipe(**{**SMALL_DSRG, **SMALL_RESNET101, **SMOKE}),
    }

    def __init__(self, recipe, spec):
        Stage.__init__(self, recipe, spec)
        self.network = build(recipe, spec.num_classes)
        self.preset = densecrf.preset(recipe.crf, scale=recipe.crf_scale)

    def targets(self, batch: dict, score: Tensor) -> tuple[Tensor, Tensor]:
        """CRF marginals of floored scores, and the seeds of a batch, grown by them.

        Returns:
            Marginals, (N, C, h, w), floored and normalised; seeds, bool (N, C, h, w).
        """
        recipe = self.recipe
        logit = score.detach().log()  # the floor stays in
        with self.part("crf"):
            marginal = self.marginals(batch["image"], logit).clamp_min(recipe.floor)
        marginal = marginal / marginal.sum(dim=1, keepdim=True)
        seed = batch["cue"]
        if recipe.grow:
            seed = grow_seeds(
                marginal,
                seed,
                batch["tag"],
                recipe.threshold_foreground,
                recipe.threshold_background,
            )
        return marginal, seed

    def losses(self, batch: dict, step: int) -> dict[str, Tensor]:
        score = floor_softmax(self.forward(batch["image"]), self.recipe.floor)
        marginal, seed = self.targets(batch, score)
        return {
            "seed": balanced_seed_loss(score, seed),
            "constrain": constrain_loss(score, marginal, 0, self.recipe.clip),
        }

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        """The seeds as they were given, as they have grown, and the prediction."""
        score = floor_softmax(self.forward(batch["image"]), self.recipe.floor)
        _, grown = self.targets(batch, score)
        return {
            "seed": class_map(batch["cue"]),
            "grown seed": class_map(grown),
            "prediction": score.argmax(1),
        }

    def merge(self, scores: list[Tensor]) -> Tensor:
        """Sum the logits of all scales at the size of the largest, then softmax.

        Source: test-ms.py of the released DSRG code. Differs: the sum is taken on the largest
        grid, and its probabilities, not the logits, are brought to the image's size.
        """
        # The logarithm of a score is its logit up to a constant for all classes, which enlarging
        # and summing keep constant for all classes, and the softmax then drops.
        size = max(tuple(score.shape[-2:]) for score in scores)
        total = 0
        for score in scores:
            log = score.clamp_min(1e-30).log()
            if log.shape[-2:] != size:
                log = nn.functional.interpolate(log, size, mode="bilinear", align_corners=False)
            total = total + log
        return torch.softmax(total, dim=1)


@dataclass(frozen=True)
class RetrainRecipe(PyramidRecipe, PseudoRecipe):
    """Step 2 as released: solver-f.prototxt and train-f.prototxt."""

    steps: int = 20000
    """Optimiser steps (solver-f.prototxt)."""
    batch: int = 10
    """Images a step (train-f.prototxt)."""
    policy: Literal["step", "poly", "cosine"] = "poly"
    """How the learning rate falls (solver-f.prototxt)."""
    mirror: bool = True
    """Flip half of the training images, with their masks."""


# Objects of `scenes` on three test scales: a network from scratch must have seen them so.
SMALL_RETRAIN = {**SMALL_DSRG, "steps": 800, "scale": (0.75, 1.25)}


class Retrain(Pseudo):
    """Step 2: cross entropy on the masks that step 1 predicts, in crops of the image's own size."""

    recipes: ClassVar = {
        "paper": RetrainRecipe(),
        "paper-resnet101": RetrainRecipe(**RESNET101),
        "small": RetrainRecipe(**SMALL_RETRAIN),
        "small-resnet101": RetrainRecipe(**{**SMALL_RETRAIN, **SMALL_RESNET101}),
        "smoke": RetrainRecipe(**{**SMALL_DSRG, **SMOKE}),
        "smoke-resnet101": RetrainRecipe(**{**SMALL_DSRG, **SMALL_RESNET101, **SMOKE}),
    }

    def __init__(self, recipe, spec):
        super().__init__(recipe, spec)
        self.network = build(recipe, spec.num_classes)

    test_crf = DSRG.test_crf
    merge = DSRG.merge


def build(recipe: PyramidRecipe, num_classes: int) -> nn.Module:
    """The network of both steps."""
    if recipe.backbone == "resnet101":
        return ResNetPyramid(num_classes, recipe.rates, **recipe.trunk())
    return VGGPyramid(num_classes, recipe.hidden, recipe.rates, recipe.dropout, **recipe.trunk())


def class_map(seed: Tensor) -> Tensor:
    """Class of each seed of (N, C, h, w), of several the highest; `IGNORE` elsewhere; (N, h, w)."""
    index = torch.arange(seed.shape[1], device=seed.device).view(1, -1, 1, 1)
    highest = torch.where(seed, index, -1).amax(dim=1)
    return torch.where(highest < 0, IGNORE, highest)
