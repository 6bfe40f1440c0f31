"""SEAM: self-supervised equivariant attention (Wang et al., CVPR 2020).

A classifier sees each image at two sizes. Its class activation maps must not depend on the size,
and must agree with what a pixel correlation module makes of the other view's maps. The refined
maps cover more of an object than plain ones: cues for SEC and DSRG, prompts for a segmenter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from base.tensor import max_norm, resize
from datalist.dataset import Images
from loss.seam import cross_equivariance_loss, equivariance_loss, rvmin_loss, tag_loss
from method.recipe import SMALL_BASE, Recipe
from method.stage import Stage
from network.seam import SEAMNet, with_background
from network.weight import Report, load_weights
from network.wide import load_wide


@dataclass(frozen=True)
class SEAMRecipe(Recipe):
    """SEAM as released: train_SEAM.py and its command line."""

    backbone: Literal["vgg16", "resnet38d", "resnet50"] = "resnet38d"
    """Trunk (the paper: resnet38d); each has recipes of its own, which --backbone chooses."""
    weights: str = "data/ilsvrc-cls_rna-a1_cls1000_ep-0001.pth"
    """Start from: none, a state dict's path (ResNet-38d converted from MXNet), or, for the other
    trunks, torchvision."""
    steps: int = 10582
    """Optimiser steps (8 epochs of VOC)."""
    batch: int = 8
    """Images a step."""
    size: tuple[int, int] = (448, 448)
    """Height and width of the crops, pixels."""
    long: tuple[int, int] = (448, 768)
    """Range of the longer side of the image before the crop, pixels."""
    test_long: int = 0
    """Longer side of images at test, pixels; 0: their own size."""
    mirror: bool = True
    """Flip half of the training images."""
    jitter: tuple[float, float, float, float] | None = (0.3, 0.3, 0.3, 0.1)
    """Spread of brightness, contrast, saturation and hue."""
    lr: float = 0.01
    """Base learning rate; the heads' multipliers come on top."""
    momentum: float = 0.0
    """Momentum of SGD. The released optimiser gets the weight decay in its place: 5e-4, next to
    none."""
    policy: Literal["step", "poly", "cosine"] = "poly"
    """How the learning rate falls."""
    width: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096)
    """Channels of the trunk's parts: conv1a and b2 to b7 of resnet38d, the five of the others."""
    depth: tuple[int, ...] = (3, 3, 6, 3)
    """Blocks of b2 to b5 of resnet38d; of the five parts of the others."""
    pool: tuple[int, ...] = (2, 2, 2)
    """Strides of b2 to b4 of resnet38d; of the others as of `network.resnet` and `network.vgg`."""
    dilation: tuple[int, ...] = (2, 4, 4)
    """Dilation of b5 to b7 of resnet38d; of the five parts of the others."""
    norm: bool = False
    """Batch normalisation that learns, for training from scratch (ours); else it is frozen."""
    dropout: float = 0.5
    """Probability of dropping whole channels before the classifier and in b7, in b6 0.6 of it."""
    reduced: tuple[int, int] = (64, 128)
    """Channels that the pixel correlation's two features are reduced to."""
    equivariance: bool = True
    """Learn from two views and refine the maps; without, plain class activation maps."""
    ramp: int = 0
    """Steps over which all losses but the classification's rise to their full weight (ours, for
    training from scratch: maps that know nothing yet agree best where they are empty)."""
    ratio: float = 0.3
    """Size of the second view over that of the first."""
    lowest: float = 0.25
    """Share of the positions whose refined maps are held low (rvmin)."""
    hardest: float = 0.2
    """Share of the values that the cross regularisation looks at (ECR)."""
    threshold: float = 0.3
    """Cells above this share of their map's maximum are cues (IRN's labels) [inferred]."""
    threshold_background: float = 0.05
    """Cells where no map reaches this are background cues (IRN's labels) [inferred]."""
    cell: int = 8
    """Side of a cue's cell, pixels of `size`: all images share one grid."""


RESNET50 = {
    "backbone": "resnet50",
    "weights": "torchvision",
    "width": (64, 64, 128, 256, 512),
    "depth": (1, 3, 4, 6, 3),
    "pool": (2, 2, 2, 2, 1),
    "dilation": (1, 1, 1, 1, 1),
}
"""IRN's trunk, stride 16."""

SMALL_SEAM = {
    **SMALL_BASE,
    "weights": "none",
    "size": (80, 80),
    "long": (80, 100),
    "test_long": 96,
    "jitter": None,  # hue is part of what tells the classes of `scenes` apart
    "backbone": "vgg16",
    "width": (24, 48, 64, 96, 96),
    "depth": (1, 1, 1, 1, 1),
    "pool": (2, 2, 1, 0, 0),
    "dilation": (1, 1, 1, 2, 4),
    "norm": True,
    "dropout": 0.1,
    "reduced": (16, 32),
    "ramp": 200,
    "ratio": 0.5,
    "cell": 4,
    "threshold": 0.5,  # right in 79 cells of 100 on `scenes`, at 0.3 in 71
}
# From scratch VGG16 learns in a third of the steps that ResNet-38d needs.
SMALL_RESNET38D = {
    "backbone": "resnet38d",
    "width": (16, 24, 48, 64, 96, 96, 128),
    "depth": (1, 1, 1, 1),
    "pool": (2, 2, 1),
    "dilation": (2, 4, 4),
}
SMALL_RESNET50 = {
    "backbone": "resnet50",
    "width": (24, 12, 16, 24, 32),
    "depth": (1, 1, 1, 1, 1),
    "pool": (2, 1, 2, 1, 1),
    "dilation": (1, 1, 1, 2, 4),
}
SMOKE_SEAM = {
    "steps": 4,
    "batch": 2,
    "size": (32, 32),
    "long": (32, 40),
    "test_long": 40,
    "width": (4, 4, 4, 6, 6),
    "reduced": (4, 4),
    "ramp": 0,
}
SMOKE_RESNET38D = {"width": (4, 4, 4, 6, 6, 8, 8)}
SMOKE_RESNET50 = {"width": (4, 2, 2, 3, 4)}


class SEAM(Stage):
    """Class activation maps of two views that agree, from tags."""

    background = False
    fit = "native"
    recipes: ClassVar = {
        "paper": SEAMRecipe(),
        "paper-resnet50": SEAMRecipe(**RESNET50),
        "small": SEAMRecipe(**SMALL_SEAM),
        "small-resnet38d": SEAMRecipe(**{**SMALL_SEAM, **SMALL_RESNET38D}),
        "small-resnet50": SEAMRecipe(**{**SMALL_SEAM, **SMALL_RESNET50}),
        "smoke": SEAMRecipe(**{**SMALL_SEAM, **SMOKE_SEAM}),
        "smoke-resnet38d": SEAMRecipe(
            **{**SMALL_SEAM, **SMALL_RESNET38D, **SMOKE_SEAM, **SMOKE_RESNET38D}
        ),
        "smoke-resnet50": SEAMRecipe(
            **{**SMALL_SEAM, **SMALL_RESNET50, **SMOKE_SEAM, **SMOKE_RESNET50}
        ),
    }

    def __init__(self, recipe, spec):
        super().__init__(recipe, spec)
        self.network = localiser(recipe, spec.num_classes)

    def load(self) -> Report:
        """Start from the recipe's weights; returns the report of keys."""
        return load_localiser(self.network, self.recipe)

    def dataset(self, **changes) -> Images:
        """Crops with tags; `changes` go to `Images`."""
        recipe = self.recipe
        options = {"long": recipe.long, "cache": True, **changes}
        return Images(
            self.spec,
            recipe.split,
            size=recipe.size,
            mode="crop",
            mirror=recipe.mirror,
            jitter=recipe.jitter,
            seed=recipe.seed,
            **options,
        )

    def losses(self, batch: dict, step: int) -> dict[str, Tensor]:
        return self.compare(self.views(batch["image"]), batch["tag"], step)

    def views(self, image: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Plain maps (N, K, h, w) and refined ones (N, K or K + 1, h, w), at the size of their
        image, of the image and, with `equivariance`, of the image at `ratio`."""
        images = [image]
        if self.recipe.equivariance:
            size = [max(1, int(side * self.recipe.ratio)) for side in image.shape[-2:]]
            images.append(resize(image.float(), size, align_corners=True))
        return [
            tuple(resize(maps, view.shape[-2:], align_corners=True) for maps in self.forward(view))
            for view in images
        ]

    def compare(
        self, views: list[tuple[Tensor, Tensor]], tag: Tensor, step: int
    ) -> dict[str, Tensor]:
        """SEAM's losses of the maps of one or two views."""
        recipe = self.recipe
        terms = {"classify": sum(tag_loss(cam, tag) for cam, _ in views) / len(views)}
        if len(views) == 1:
            return terms
        own = tag[:, :, None, None].to(views[0][0])
        classes, grid = own.shape[1], views[1][0].shape[-2:]
        background = views[0][1].shape[1] > classes
        known = nn.functional.pad(own, (0, 0, 0, 0, 1, 0), value=1.0) if background else own
        first, second = (resize(max_norm(cam), grid, align_corners=True) * own for cam, _ in views)
        refined = [resize(max_norm(maps), grid, align_corners=True) * known for _, maps in views]
        low = [rvmin_loss(maps[:, -classes:] * own, recipe.lowest) for _, maps in views]
        others = [with_background(cam) if background else cam for cam in (second, first)]
        cross = [
            cross_equivariance_loss(maps, other, recipe.hardest, background)
            for maps, other in zip(refined, others)
        ]
        weight = min(1.0, step / recipe.ramp) if recipe.ramp else 1.0
        return terms | {
            "rvmin": weight * sum(low) / 2,
            "equivariance": weight * equivariance_loss(first, second),
            "cross": weight * sum(cross),
        }

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        if not self.recipe.test_long:
            return size
        factor = self.recipe.test_long / max(size)
        return tuple(max(1, round(side * factor)) for side in size)

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        """The strongest tagged class where its map is above the threshold."""
        score = max_norm(self.scores(batch["image"], batch["tag"]))
        constant = torch.full_like(score[:, :1], self.recipe.threshold)
        return {"map": torch.cat((constant, score), dim=1).argmax(1)}

    @torch.no_grad()
    def scores(self, image: Tensor, tag: Tensor | None = None) -> Tensor:
        """Maps in [0, 1], refined with `equivariance`, zero for untagged classes."""
        cam, refined = self.forward(image)
        score = refined[:, -cam.shape[1] :] if self.recipe.equivariance else max_norm(cam)
        return score if tag is None else score * tag[:, :, None, None].to(score)

    def merge(self, scores: list[Tensor]) -> Tensor:
        """Mean of all scales at the size of the largest, from 0 to 1."""
        return max_norm(super().merge(scores))

    def cues(self, image: Tensor, tag: Tensor) -> Tensor:
        grid = [max(1, side // self.recipe.cell) for side in self.recipe.size]
        score = resize(max_norm(self.scores(image, tag)), grid)
        highest = score.amax(dim=1, keepdim=True)
        foreground = (score > self.recipe.threshold) & (score == highest)
        return torch.cat((highest < self.recipe.threshold_background, foreground), dim=1)


def localiser(recipe: SEAMRecipe, num_classes: int, background: bool = True) -> SEAMNet:
    """The network of a recipe, for as many classes with background; `background`: of `SEAMNet`."""
    names = ("backbone", "reduced", "dropout", "width", "depth", "pool", "dilation", "norm")
    shape = {name: getattr(recipe, name) for name in names}
    return SEAMNet(num_classes - 1, convention=recipe.convention, background=background, **shape)


def load_localiser(network: SEAMNet, recipe: SEAMRecipe) -> Report:
    """Start a localiser's trunk from the recipe's weights; returns the report of keys."""
    load = load_wide if recipe.backbone == "resnet38d" else load_weights
    return load(network, recipe.weights)
