"""The contract between a method and what runs it.

A training loop, a predictor or a test knows a stage by the members of `Stage` alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

import torch
from torch import Tensor, nn

import densecrf
from datalist.spec import Spec
from method.recipe import Recipe
from network.weight import Report, load_weights


class Stage:
    """One network with its recipe, data, losses and predictions.

    A subclass sets `recipes` and builds `self.network`; it overrides `dataset`, `losses` and
    `scores`, and whatever else it does differently.

    Args:
        recipe: hyper-parameters.
        spec: data set; its classes decide the number of outputs.
    """

    recipes: ClassVar[dict[str, Recipe]] = {}
    """Named recipes: "paper" as published, "small" for a laptop and no pretrained weights,
    "smoke" to see every line run."""

    background = True
    """Whether the first channel of `scores` is the background."""

    fit = "warp"
    """How an image becomes input: "warp" to `recipe.size`, or at its "native" size."""

    network: nn.Module

    def __init__(self, recipe: Recipe, spec: Spec):
        self.recipe = recipe
        self.spec = spec
        self.num_classes = spec.num_classes
        self.device = torch.device("cpu")
        self.replica: Callable | None = None
        self.half = False
        self.average: Callable[[Tensor], Tensor] = lambda value: value
        self.part: Callable[[str], AbstractContextManager] = lambda name: nullcontext()

    # -- set by whoever runs the stage ------------------------------------------------------
    # replica: the network wrapped for several processes or compiled; the forward pass takes it.
    # half: run the network in bfloat16.
    # average: mean of a tensor over the processes. A loss that divides by a count over the
    #     batch (valid pixels, say) divides by `average(count)`, so that the split changes nothing;
    #     losses that average over images need no care, each process has as many.
    # part: context that times a part of the step under a name.

    def to(self, device: torch.device) -> Stage:
        """Move the network to a device; channels last, which convolutions prefer."""
        self.device = torch.device(device)
        self.network.to(self.device, memory_format=torch.channels_last)
        return self

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the network or its replica, in bfloat16 where asked; float32 out.

        A network with several outputs gives a tuple.
        """
        # The replica averages gradients; a prediction in one process must not wait for the others.
        # Asked for by identity: the truth of a compiled module is its length, which it lacks.
        replicated = self.replica is not None and self.network.training
        network = self.replica if replicated else self.network
        image = image.contiguous(memory_format=torch.channels_last)
        with self.part("network"), torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.half
        ):  # fmt: skip
            output = network(image)
        if isinstance(output, tuple):
            return tuple(part.float() for part in output)
        return output.float()

    # -- training ---------------------------------------------------------------------------

    def dataset(self):
        """Training samples: a map-style data set of dicts that takes (index, draw)."""
        raise NotImplementedError

    def groups(self) -> list[dict]:
        """Parameter groups; each trainable parameter stands in exactly one.

        Weights of new layers (`self.heads()`) learn `head_factor` times as fast and biases
        `bias_factor` times (2 in the Caffe solvers of this family).
        """
        heads = {id(p) for module in self.heads() for p in module.parameters()}
        factor = self.head_factor()
        bias_factor = self.recipe.bias_factor if self.recipe.optimizer == "sgd" else 1.0
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in self.network.parameters():
            if not parameter.requires_grad:
                continue
            scale = factor if id(parameter) in heads else 1.0
            decay = self.recipe.weight_decay
            if parameter.ndim == 1:  # biases and normalisation layers
                scale *= bias_factor
                decay = decay if self.recipe.decay_biases else 0.0
            groups.setdefault((scale, decay), []).append(parameter)
        return [
            {"params": members, "lr": self.recipe.lr * scale, "weight_decay": decay}
            for (scale, decay), members in groups.items()
        ]

    def load(self) -> Report:
        """Start from the recipe's weights; returns the report of keys."""
        return load_weights(self.network, self.recipe.weights)

    def heads(self) -> list[nn.Module]:
        """Modules that start from random weights whatever `weights` says: the network's `new`."""
        return [self.network.get_submodule(name) for name in self.network.new]

    def head_factor(self) -> float:
        """Learning-rate multiplier of the heads."""
        return 10.0 if self.recipe.optimizer == "sgd" else 1.0

    def optimizer(self) -> torch.optim.Optimizer:
        """The recipe's optimiser over `groups`."""
        recipe = self.recipe
        fused = self.device.type == "cuda"  # one kernel for all parameters
        if recipe.optimizer == "adamw":
            return torch.optim.AdamW(self.groups(), lr=recipe.lr, fused=fused)
        return torch.optim.SGD(self.groups(), lr=recipe.lr, momentum=recipe.momentum, fused=fused)

    def schedule(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        """The recipe's learning-rate policy, stepped once an optimiser step."""
        recipe = self.recipe

        def factor(step: int) -> float:
            if step < recipe.warmup:
                return (step + 1) / recipe.warmup
            left = max(0.0, 1 - step / max(1, recipe.steps))
            if recipe.policy == "poly":
                return left**0.9
            if recipe.policy == "cosine":
                return 0.5 - 0.5 * math.cos(math.pi * left)
            return recipe.decay_factor ** (step // recipe.decay_every)

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    def losses(self, batch: dict, step: int) -> dict[str, Tensor]:
        """Named scalars of a batch on the stage's device; the objective is their sum."""
        raise NotImplementedError

    def after_step(self, step: int) -> None:
        """Called after each optimiser step (moving averages and the like).

        What it keeps must be part of the network's state dict, or a resumed run lacks it.
        """

    def panels(self, batch: dict) -> dict[str, Tensor]:
        """Class maps (N, h, w) to show beside the images of a batch, by title."""
        return {}

    # -- prediction -------------------------------------------------------------------------

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width at which an image of `size` enters the network at test, at scale 1."""
        return tuple(self.recipe.size) if self.fit == "warp" else tuple(size)

    def scores(self, image: Tensor, tag: Tensor | None = None) -> Tensor:
        """Scores in [0, 1], (N, channels, h, w), of RGB images 0..255, (N, 3, H, W).

        With `background` the channels are all classes; without, the foreground classes alone.
        Stages that need the tags (N, K) take them; the others pass them over.
        """
        raise NotImplementedError

    def predict(self, images: list[Tensor], tag: Tensor | None, mirror: bool) -> Tensor:
        """Scores of images given at several scales, each (N, 3, H, W), as `scores` has them.

        Args:
            images: the same images at each scale.
            tag: their tags (N, K), or None where they are not known.
            mirror: run the mirrored images too.
        """
        found = []
        for image in images:
            found.append(self.scores(image, tag))
            if mirror:
                found.append(self.scores(image.flip(3), tag).flip(3))
        return self.merge(found)

    def merge(self, scores: list[Tensor]) -> Tensor:
        """Join scores of several scales and mirrorings, each (N, channels, h, w), to one.

        The mean, at the size of the largest.
        """
        size = max(tuple(score.shape[-2:]) for score in scores)
        enlarged = [
            score
            if tuple(score.shape[-2:]) == size
            else nn.functional.interpolate(score, size, mode="bilinear", align_corners=False)
            for score in scores
        ]
        return torch.stack(enlarged).mean(0)

    def test_crf(self) -> densecrf.Preset:
        """CRF of the test, widths in pixels of the image."""
        return densecrf.preset(self.recipe.crf, scale=self.recipe.test_crf_scale)

    def cues(self, image: Tensor, tag: Tensor) -> Tensor:
        """Localization cues, bool (N, C, h, w); only cue stages have them."""
        raise NotImplementedError(f"{type(self).__name__} makes no cues")
