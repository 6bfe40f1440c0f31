"""Locate, then segment: class activation maps turned into masks by a class-agnostic network.

The segmenter gets an image and a map that says roughly where one object class is, and gives back
its mask. It learns from masks of other, external classes, together with a localiser (SEAM) whose
maps of these classes are its prompts (`Segmenter`). On a target data set a localiser that knows
tags alone gives the prompts; what the segmenter makes of them is segmented again, some passes
long (`Resegment`). No mask of the target is ever seen.

Differs from the released code (wjlbnw/SegmentationFromLocalization): the segmenter ends in a
sigmoid (there it is commented out, and Dice has no bounds); images are scaled by 0.7 to 1.3 (there
always by 1.3); one AdamW trains both networks (there SGD and Adam); the pairs of a step come from
its own batch (there a buffer fills up over several); pixels of no class do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from base import IGNORE, UserError
from base.tensor import max_norm, resize
from datalist.dataset import Images
from loss.dice import dice_loss
from method.seam import (
    RESNET50,
    SEAM,
    SMALL_RESNET50,
    SMALL_SEAM,
    SMOKE_RESNET50,
    SMOKE_SEAM,
    SEAMRecipe,
    load_localiser,
    localiser,
)
from method.stage import Stage
from network.prompt import LocateSegment
from network.weight import load_all, load_resnet


@dataclass(frozen=True)
class PromptRecipe(SEAMRecipe):
    """The localiser's fields, the segmenter's shape, and how the two predict."""

    segmenter_width: tuple[int, ...] = (64, 64, 128, 256, 512)
    """Channels of the segmenter's stem and stages (network/edge_SEAM.py: ResNet-101)."""
    segmenter_depth: tuple[int, ...] = (1, 3, 4, 23, 3)
    """Blocks of the stem (1) and the stages."""
    segmenter_pool: tuple[int, ...] = (2, 2, 2, 2, 1)
    """Strides of the stem, its pool and stages 2 to 4: 16 together."""
    segmenter_dilation: tuple[int, ...] = (1, 1, 1, 1, 2)
    """Dilation of the stem (1) and the stages."""
    grid: tuple[int, ...] = (1, 2, 4)
    """Multi-grid of the last stage."""
    low: int = 48
    """Channels that the first stage's features are reduced to."""
    hidden: int = 256
    """Channels of the pyramid and the decoder."""
    rates: tuple[int, ...] = (6, 12, 18)
    """Dilation of the pyramid's branches."""
    segmenter_dropout: float = 0.0
    """Probability of dropping elements in the segmenter's decoder (released: none)."""
    passes: int = 3
    """How often the segmenter segments: first the localiser's map, then its own mask."""
    background: float = 0.5
    """Score of the background beside the masks (infer_and_envalue.py)."""
    tag_threshold: float = 0.5
    """Without tags: classes that the localiser gives a higher probability are segmented (ours)."""


@dataclass(frozen=True)
class SegmenterRecipe(PromptRecipe):
    """Training on external masks: train_edge.py and its command line."""

    start: str = ""
    """Checkpoint of a `seam` run on the same data set to start the localiser from (as released);
    empty: from `weights`."""
    segmenter_weights: str = "torchvision"
    """Start of the segmenter: none, torchvision, or the path of a ResNet's state dict."""
    steps: int = 55000
    """Optimiser steps (the released segmenter's)."""
    batch: int = 2
    """Images a step."""
    pairs: int = 4
    """Pairs of an image and a class that the segmenter learns from at each step, at most."""
    scale: tuple[float, float] | None = (0.7, 1.3)
    """Range of the factor to the image's own size before the crop; without, `long` decides."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """Optimiser of both networks (released: SGD for the localiser, Adam for the segmenter)."""
    lr: float = 1e-4
    """Learning rate (the released segmenter's)."""
    ratio: float = 0.5
    """Size of the second view over that of the first."""


@dataclass(frozen=True)
class ResegmentRecipe(PromptRecipe):
    """A localiser of the target's classes and a segmenter, both trained before."""

    start: str = ""
    """Checkpoint of a `seam` run on this data set: the localiser."""
    segmenter: str = ""
    """Checkpoint of a `segmenter` run on an external data set."""
    steps: int = 0
    """Optimiser steps that the localiser learns on, as `seam` does; the segmenter is fixed."""


SMALL_PROMPT = {
    **SMALL_SEAM,
    "segmenter_width": (16, 8, 16, 16, 24),
    "segmenter_depth": (1, 1, 1, 2, 1),
    "segmenter_pool": (2, 1, 2, 2, 1),
    "segmenter_dilation": (1, 1, 1, 1, 2),
    "low": 16,
    "hidden": 32,
    "rates": (2, 4, 6),
    "passes": 1,  # a segmenter from scratch loses some points with each further pass
}
SMALL_SEGMENTER = {
    **SMALL_PROMPT,
    "segmenter_weights": "none",
    "scale": None,
    "long": (67, 125),  # 0.7 to 1.3 of the longer side at test
    "steps": 800,
    "batch": 8,
    "pairs": 8,
}
SMOKE_PROMPT = {
    **SMOKE_SEAM,
    "segmenter_width": (4, 2, 2, 3, 4),
    "low": 4,
    "hidden": 4,
}
SMOKE_SEGMENTER = {**SMOKE_PROMPT, "pairs": 4}


class Prompted(SEAM):
    """What both stages share: localiser and segmenter, and how they predict together."""

    background = True
    localiser_background = True
    """Whether the localiser's pixel correlation has a background map."""

    def __init__(self, recipe, spec):
        super().__init__(recipe, spec)
        self.network = LocateSegment(
            localiser(recipe, spec.num_classes, self.localiser_background),
            recipe.low,
            recipe.hidden,
            recipe.rates,
            recipe.segmenter_dropout,
            width=recipe.segmenter_width,
            depth=recipe.segmenter_depth,
            pool=recipe.segmenter_pool,
            dilation=recipe.segmenter_dilation,
            grid=recipe.grid,
            norm=True,
            convention=recipe.convention,
        )

    def segment(self, image: Tensor, prompt: Tensor) -> Tensor:
        """Masks in [0, 1] of images with one prompt each.

        Args:
            image: RGB 0..255, (P, 3, H, W).
            prompt: where the object is, in [0, 1], (P, h, w), any size.

        Returns:
            (P, H, W).
        """
        size = image.shape[-2:]
        prompt = resize(prompt[:, None].float(), size, align_corners=True)
        logit = self.forward(torch.cat((image.to(prompt), prompt), dim=1))
        return resize(logit, size, align_corners=True)[:, 0].sigmoid()

    @torch.no_grad()
    def scores(self, image: Tensor, tag: Tensor | None = None) -> Tensor:
        """Scores after all passes, background first, that sum to 1, (N, C, H, W).

        Without tags the localiser says which classes there are. With no passes the localiser's
        maps are the masks.
        """
        cam, _ = self.forward(image)
        if tag is None:
            tag = cam.mean(dim=(2, 3)).sigmoid() > self.recipe.tag_threshold
        shown, label = tag.nonzero(as_tuple=True)
        mask = max_norm(resize(cam, image.shape[-2:], align_corners=True))[shown, label]
        for _ in range(self.recipe.passes if len(shown) else 0):
            mask = self.segment(image[shown], mask)
        score = torch.zeros(len(image), self.num_classes, *image.shape[-2:], device=image.device)
        score[:, 0] = self.recipe.background
        score[shown, label + 1] = mask
        return score / score.sum(dim=1, keepdim=True)

    merge = Stage.merge

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        """What the segmenter makes of the tagged classes, after the last pass."""
        return {"prediction": self.scores(batch["image"], batch["tag"]).argmax(1)}


class Segmenter(Prompted):
    """A class-agnostic network that turns maps into masks, learned from external masks."""

    localiser_background = False
    recipes: ClassVar = {
        "paper": SegmenterRecipe(),
        "paper-resnet50": SegmenterRecipe(**RESNET50),
        "small": SegmenterRecipe(**SMALL_SEGMENTER),
        "small-resnet50": SegmenterRecipe(**{**SMALL_SEGMENTER, **SMALL_RESNET50}),
        "smoke": SegmenterRecipe(**{**SMALL_SEGMENTER, **SMOKE_SEGMENTER}),
        "smoke-resnet50": SegmenterRecipe(
            **{**SMALL_SEGMENTER, **SMALL_RESNET50, **SMOKE_SEGMENTER, **SMOKE_RESNET50}
        ),
    }

    def load(self) -> str:
        """Start both networks; returns the reports of keys."""
        recipe = self.recipe
        if recipe.start:
            report = load_all(self.network.localiser, recipe.start)
        else:
            report = load_localiser(self.network.localiser, recipe)
        return f"{report}\n{load_resnet(self.network.segmenter, recipe.segmenter_weights)}"

    def dataset(self) -> Images:
        recipe = self.recipe
        long = None if recipe.scale else recipe.long
        return super().dataset(long=long, scale=recipe.scale, mask=self.spec.mask_folder, tag=False)

    def losses(self, batch: dict, step: int) -> dict[str, Tensor]:
        image, mask = batch["image"], batch["mask"]
        tag = shown_classes(mask, self.num_classes)
        batch["tag"] = tag  # of the crop, not of the whole image; the pictures show it
        views = self.views(image)
        terms = self.compare(views, tag, step)
        cam, refined = views[0]
        shown, label = self.draw_pairs(tag)
        prompts = [max_norm(maps.detach())[shown, label] for maps in (cam, refined)]
        # An image without any class teaches that where nothing is located nothing is segmented.
        prompts = [prompt * tag[shown, label][:, None, None] for prompt in prompts]
        both = self.segment(torch.cat((image[shown],) * 2), torch.cat(prompts))
        first, second = both.chunk(2)
        truth, valid = (mask[shown] == label[:, None, None] + 1).float(), mask[shown] != IGNORE
        return terms | {
            "segment": dice_loss(first, truth, valid),
            "segment refined": dice_loss(second, truth, valid),
            "agree": dice_loss(first, second, valid),
        }

    def draw_pairs(self, tag: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of images and of their classes, (P,) each: some of those shown, at least one."""
        pairs = tag.nonzero()
        if not len(pairs):
            pairs = tag.new_zeros(1, 2, dtype=torch.long)
        kept = torch.randperm(len(pairs))[: self.recipe.pairs].to(pairs.device)
        return pairs[kept].unbind(1)


class Resegment(Prompted):
    """Masks of the target's tags: its localiser's maps, segmented by an external segmenter."""

    recipes: ClassVar = {
        "paper": ResegmentRecipe(),
        "paper-resnet50": ResegmentRecipe(**RESNET50),
        "small": ResegmentRecipe(**{**SMALL_PROMPT, "steps": 0}),
        "small-resnet50": ResegmentRecipe(**{**SMALL_PROMPT, **SMALL_RESNET50, "steps": 0}),
        "smoke": ResegmentRecipe(**{**SMALL_PROMPT, **SMOKE_PROMPT}),
        "smoke-resnet50": ResegmentRecipe(
            **{**SMALL_PROMPT, **SMALL_RESNET50, **SMOKE_PROMPT, **SMOKE_RESNET50}
        ),
    }

    def __init__(self, recipe, spec):
        super().__init__(recipe, spec)
        self.network.segmenter.requires_grad_(False)

    def load(self) -> str:
        """Take localiser and segmenter from their checkpoints; returns the reports of keys."""
        recipe = self.recipe
        if not recipe.segmenter:
            raise UserError(
                "resegment needs a network that segments: give --segmenter CHECKPOINT of a "
                "segmenter run on an external data set (script/locate.sh makes one)"
            )
        if recipe.start:
            report = load_all(self.network.localiser, recipe.start)
        elif recipe.steps:
            report = load_localiser(self.network.localiser, recipe)
        else:
            raise UserError(
                "resegment needs a localiser: give --start CHECKPOINT of a seam run on this data "
                "set, or --steps above 0 to train one"
            )
        return f"{report}\n{load_all(self.network.segmenter, recipe.segmenter, 'segmenter')}"


def shown_classes(mask: Tensor, num_classes: int) -> Tensor:
    """Which foreground classes masks show, (N, K) of 0 and 1, of masks (N, H, W)."""
    index = torch.where(mask == IGNORE, 0, mask).flatten(1)
    shown = torch.zeros(len(mask), num_classes, device=mask.device)
    return shown.scatter_(1, index, 1.0)[:, 1:]
