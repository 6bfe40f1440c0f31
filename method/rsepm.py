"""RecurSeed and EdgePredictMix (Jo, Yu and Kim, arXiv 2204.06754).

One network classifies the tags and segments. Its activation maps are refined (by the correlations
of its own features, then by colour), and the refined maps teach the maps they came from, so that
the next ones start higher: RecurSeed. Where they are sure they also teach the decoder. What the
decoder itself is sure of decides which part of one image is pasted into another, and the network
learns from the mixture: EdgePredictMix.

The authors released weights and inference, not the training: what is marked [inferred] follows
their diagrams, names and later code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from base import IGNORE
from base.tensor import over_peak, resize
from datalist.dataset import Images
from method.recipe import SMALL_BASE, SMALL_RESNET_PLUS, SMOKE_RESNET_PLUS, ResNetRecipe
from method.stage import Stage
from method.supervised import segment_loss
from network.normalise import mean_colour
from network.rsepm import RSEPM, Averaged
from network.weight import load_weights
from refine import (
    best_labels,
    certain_labels,
    class_region,
    edge_labels,
    object_region,
    pamr,
    paste,
    rectangle_region,
    self_correlation_map,
)


@dataclass(frozen=True)
class RSEPMRecipe(ResNetRecipe):
    """Sources: "tag" is the default run name of the released code, "DHR" the training code of the
    authors' next paper (shjo-april/DHR), [inferred] what neither says for this method."""

    steps: int = 66100
    """Optimiser steps: 100 epochs of train_aug (DHR) [inferred]."""
    batch: int = 16
    """Images a step (DHR) [inferred]."""
    size: tuple[int, int] = (512, 512)
    """Height and width of the crop, pixels (DHR) [inferred]."""
    long: tuple[int, int] = (320, 640)
    """Range of the image's longer side before the crop, pixels (DHR) [inferred]."""
    jitter: tuple[float, float, float, float] = (0.3, 0.3, 0.3, 0.1)
    """Spread of brightness, contrast, saturation and hue (DHR) [inferred]."""
    mirror: bool = True
    """Flip half of the training images (DHR) [inferred]."""
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
    average: float = 0.999
    """Decay of the weights' moving average, which predicts (DHR; 0.9999 released) [inferred]."""
    average_ramp: float = 2000.0
    """Steps over which that decay rises (released)."""

    recursion_epoch: int = 5
    """Epoch from which the refined maps teach maps and decoder (tag)."""
    mix_epoch: int = 15
    """Epoch from which mixed images are learned (tag)."""
    recursion_weight: float = 1.0
    """Weight of the recursion loss on the maps; 0 leaves it out (tag)."""
    segment_weight: float = 1.0
    """Weight of the decoder's cross entropy (tag)."""
    levels: tuple[int, ...] = (3, 4, 5)
    """Stages (1: the stem) whose features correlate. Inference lists 1 to 5; 3 to 5 bound the
    memory [inferred]."""
    seed_foreground: float = 0.30
    """Activations of at least this are sure of their class (released arguments)."""
    seed_background: float = 0.05
    """Activations of at most this are sure of its absence (released arguments)."""
    correlation_first: float = 0.50
    """Cosines below this count as 0 (released arguments)."""
    correlation_second: float = 0.10
    """Second-order correlations below this share of the mean count as 0 (released arguments)."""
    refine: int = 4
    """Labels are refined and learned at the crop's size over this [inferred]."""
    refine_steps: int = 10
    """Iterations of PAMR (Araslanov and Roth) [inferred]."""
    refine_dilations: tuple[int, ...] = (1, 2, 4, 8, 12, 24)
    """Distances of its neighbours; a comment's shape says six of them [inferred]."""
    certain: float = 0.55
    """Refined maps of at least this label their class (tag) [inferred: what c means]."""
    uncertain: float = 0.10
    """Refined maps of at most this label the background (tag) [inferred: what u means]."""
    mix: Literal["edge", "certain", "classmix", "cutmix", "none"] = "edge"
    """What is pasted into the neighbour image: objects of the decoder's labels that pass the edge
    rule or the certain filter, half the classes, or a rectangle; none: no mixing."""
    edge: float = 0.2
    """Score differences to a neighbour of at least this are sharp edges [inferred]."""

    presence: float = 0.34
    """At test without tags, classes of at least this probability may occur (released README)."""
    gamma: float = 2.0
    """At test, the background scores (1 - the best class)^gamma (released)."""


SMALL_RSEPM = {
    **SMALL_BASE,
    **SMALL_RESNET_PLUS,
    "steps": 600,
    "jitter": (0.0, 0.0, 0.0, 0.0),
    "average": 0.98,
    "average_ramp": 50.0,
    "levels": (4, 5),
    "refine": 2,
    "refine_dilations": (1, 2, 4),
    "recursion_epoch": 3,
    "mix_epoch": 5,
}
SMOKE_RSEPM = {**SMOKE_RESNET_PLUS, "recursion_epoch": 0, "mix_epoch": 0}


class RecurSeed(Stage):
    """Single stage: maps that teach themselves, and a decoder that learns from them."""

    recipes: ClassVar = {
        "paper": RSEPMRecipe(),
        "small": RSEPMRecipe(**SMALL_RSEPM),
        "smoke": RSEPMRecipe(**{**SMALL_RSEPM, **SMOKE_RSEPM}),
    }

    def __init__(self, recipe, spec):
        super().__init__(recipe, spec)
        self.fit = recipe.fit
        network = RSEPM(
            spec.num_classes, recipe.low, recipe.hidden, recipe.rates, recipe.dropout,
            **recipe.trunk(),
        )  # fmt: skip
        self.network = Averaged(network, recipe.average, recipe.average_ramp)
        self.length = len(spec.ids(recipe.split)) if recipe.split in spec.lists else 1

    def load(self):
        report = load_weights(self.network.live, self.recipe.weights)
        self.network.reset()
        return report

    def after_step(self, step: int) -> None:
        self.network.update()

    def dataset(self) -> Images:
        recipe = self.recipe
        jitter = recipe.jitter if any(recipe.jitter) else None
        return self.images(mirror=recipe.mirror, jitter=jitter)

    def images(self, **options) -> Images:
        """Training images cut as the recipe says, with further options of `Images`."""
        recipe = self.recipe
        crop = {"mode": "crop", "long": recipe.long, "fill": mean_colour(recipe.convention)}
        return Images(
            self.spec, recipe.split, size=recipe.size, seed=recipe.seed, cache=True, **options,
            **(crop if self.fit == "native" else {}),
        )  # fmt: skip

    # -- training ---------------------------------------------------------------------------

    def losses(self, batch: dict, step: int) -> dict[str, Tensor]:
        recipe, image, tag = self.recipe, batch["image"], batch["tag"]
        size = [-(-side // recipe.refine) for side in image.shape[-2:]]
        inside = inside_box(batch, size)
        maps, logit, *features = self.forward(image)
        epoch = step * recipe.batch // self.length
        terms = {"classify": classify_loss(maps, tag, inside)}
        if epoch < recipe.recursion_epoch:
            # The decoder takes part in every step: torch's replicas ask for that.
            return {**terms, "recursion": 0 * maps.sum(), "segment": 0 * logit.sum()}
        small = resize(image.float(), size)
        target = self.recurse(small, tag, inside, maps, features)["refined"]
        label = self.certain(target, tag, inside)
        terms |= self.learn("", maps, logit, target, label, tag, inside)
        if epoch < recipe.mix_epoch or recipe.mix == "none":
            return terms
        own, region = self.own_labels(small, logit, tag, inside)
        mixed = [paste(x, x.roll(1, 0), region) for x in (own, target, inside)]
        # A class that came with the pasted part is there; the image's own stay, though some may
        # be covered now.
        classes = range(1, self.num_classes)
        came = torch.stack([(mixed[0] == k).flatten(1).any(1) for k in classes], dim=1)
        tag = torch.maximum(tag, came.to(tag))
        large = resize(region[:, None].float(), image.shape[-2:])[:, 0] >= 0.5
        maps, logit, *_ = self.forward(paste(image, image.roll(1, 0), large))
        return terms | self.learn("mixed ", maps, logit, mixed[1], mixed[0], tag, mixed[2])

    @torch.no_grad()
    def recurse(
        self, image: Tensor, tag: Tensor, inside: Tensor, maps: Tensor, features: list[Tensor]
    ) -> dict[str, Tensor]:
        """Refine activation maps: by correlation, then by colour.

        Args:
            image: RGB 0..255 at the size of the labels, (N, 3, h, w).
            tag: (N, K).
            inside: whether a pixel of that size is image and no filling, (N, 1, h, w).
            maps, features: what the network gave.

        Returns:
            "cam", "correlated" and "refined", all (N, K, ., .) in [0, 1], zero without a tag; the
            last at the size of `image`.
        """
        recipe = self.recipe
        with self.part("recurse"):
            present = tag[:, :, None, None] * resize(inside.float(), maps.shape[-2:])
            cam = over_peak(maps) * present
            correlated = self_correlation_map(
                cam,
                [features[level - 1] for level in recipe.levels],
                features[recipe.levels[0] - 1].shape[-2:],
                recipe.seed_foreground,
                recipe.seed_background,
                recipe.correlation_first,
                recipe.correlation_second,
            )
            refined = self.refine(image, resize(correlated, image.shape[-2:]))
            # Over its maximum, as the maps that learn it are.
            refined = over_peak(refined * tag[:, :, None, None] * inside)
        return {"cam": cam, "correlated": correlated, "refined": refined}

    def refine(self, image: Tensor, score: Tensor) -> Tensor:
        """Scores (N, C, h, w) after PAMR on images of their size."""
        return pamr(image, score, self.recipe.refine_steps, self.recipe.refine_dilations)

    def certain(self, target: Tensor, tag: Tensor, inside: Tensor) -> Tensor:
        """What refined maps (N, K, h, w) are sure of, (N, h, w)."""
        label = certain_labels(target, tag, self.recipe.certain, self.recipe.uncertain)
        return label.masked_fill(~inside[:, 0], IGNORE)

    @torch.no_grad()
    def own_labels(
        self, image: Tensor, logit: Tensor, tag: Tensor, inside: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The decoder's labels, and what of each image goes into the next.

        Args: as of `recurse`, with the decoder's logits.

        Returns:
            Labels (N, h, w); region, bool (N, h, w), of the image before, pasted from it.
        """
        recipe = self.recipe
        score = self.refine(image, torch.softmax(resize(logit, image.shape[-2:]), dim=1))
        if recipe.mix == "edge":
            label = edge_labels(score, tag, recipe.certain, recipe.edge)
        elif recipe.mix == "certain":
            label = certain_labels(score[:, 1:], tag, recipe.certain, recipe.uncertain)
        else:
            label = best_labels(score, tag)
        label = label.masked_fill(~inside[:, 0], IGNORE)
        if recipe.mix == "classmix":
            draw = torch.rand(len(label), self.num_classes, device=label.device)
            region = class_region(label, self.num_classes, draw)
        elif recipe.mix == "cutmix":
            draw = torch.rand(len(label), 3, device=label.device)
            region = rectangle_region(tuple(label.shape[-2:]), draw)
        else:
            region = object_region(label)
        return label, region.roll(1, 0)

    def learn(
        self,
        name: str,
        maps: Tensor,
        logit: Tensor,
        target: Tensor,
        label: Tensor,
        tag: Tensor,
        inside: Tensor,
    ) -> dict[str, Tensor]:
        """The recursion loss on the maps and the cross entropy on the decoder's logits."""
        recipe = self.recipe
        present = tag[:, :, None, None] * resize(inside.float(), maps.shape[-2:])
        error = (over_peak(maps) - resize(target, maps.shape[-2:])).abs() * present
        count = self.average(present.sum()).clamp_min(1)
        entropy = segment_loss(resize(logit, label.shape[-2:]), label, self)
        return {
            f"{name}recursion": recipe.recursion_weight * error.sum() / count,
            f"{name}segment": recipe.segment_weight * entropy,
        }

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        """What the refined maps are sure of, what is pasted, and the prediction."""
        image, tag = batch["image"], batch["tag"]
        inside = inside_box(batch, image.shape[-2:])
        maps, logit, *features = self.forward(image)
        target = self.recurse(image.float(), tag, inside, maps, features)["refined"]
        return {
            "refined maps": self.certain(target, tag, inside),
            "own labels": self.own_labels(image.float(), logit, tag, inside)[0],
            "prediction": logit.argmax(1),
        }

    # -- prediction -------------------------------------------------------------------------

    def scores(self, image: Tensor, tag: Tensor | None = None) -> Tensor:
        return torch.softmax(self.forward(image)[1], dim=1)

    def predict(self, images: list[Tensor], tag: Tensor | None, mirror: bool) -> Tensor:
        """Seeds: each class over its maximum; the background from what they leave.

        The classes are the image's tags or, without, those that the classifier finds.

        Source: infer_rsepm.py and convert_seed_to_pseudo_masks.py of the released code. Differs:
        bilinear between scales.
        """
        found, presence = [], []
        for image in images:
            for flip in (False, True)[: 1 + mirror]:
                maps, logit, *_ = self.forward(image.flip(3) if flip else image)
                score = torch.softmax(logit, dim=1)
                found.append(score.flip(3) if flip else score)
                presence.append(torch.sigmoid(maps.mean(dim=(2, 3))))
        if tag is None:
            tag = torch.stack(presence).mean(0) >= self.recipe.presence
        seed = self.merge(found)[:, 1:] * (tag > 0)[:, :, None, None]
        seed = seed / (seed.amax(dim=(2, 3), keepdim=True) + 1e-5)
        background = (1 - seed.amax(dim=1, keepdim=True)) ** self.recipe.gamma
        return torch.cat((background, seed), dim=1)


def classify_loss(maps: Tensor, tag: Tensor, inside: Tensor) -> Tensor:
    """Multi-label soft margin of tags and the means of maps (N, K, h, w) inside the image."""
    weight = resize(inside.float(), maps.shape[-2:])
    logit = (maps * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3)).clamp_min(1)
    return nn.functional.multilabel_soft_margin_loss(logit, tag)


def inside_box(batch: dict, size: tuple[int, int]) -> Tensor:
    """Where the pixels of a grid of `size` over the samples are image, bool (N, 1, *size).

    A sample without a `box` (top, left, bottom and right in pixels) is image all over.
    """
    image = batch["image"]
    if "box" not in batch:
        return torch.ones(len(image), 1, *size, dtype=torch.bool, device=image.device)
    top, left, bottom, right = batch["box"][:, :, None].unbind(1)
    row, column = (
        (torch.arange(n, device=image.device) + 0.5) * (length / n)
        for n, length in zip(size, image.shape[-2:])
    )
    rows = (row >= top) & (row < bottom)
    columns = (column >= left) & (column < right)
    return (rows[:, :, None] & columns[:, None, :])[:, None]
