"""What every recipe holds, and the loop and the predictor read: data, solver and prediction."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from base.error import UserError

T = TypeVar("T")
if TYPE_CHECKING:
    Flat = Annotated[T, "flat"]
else:
    Flat = tyro.conf.OmitArgPrefixes
"""Marks a group of a recipe whose flags carry no prefix: --lr, not --solver.lr."""


@dataclass(frozen=True)
class Data:
    """Images to learn from, and how they become inputs of the network."""

    dataset: str = "scenes"
    """voc, coco, scenes, or the path of a folder in VOC layout."""
    root: str = ""
    """Where voc, coco or scenes lies; empty: data/VOC2012, data/COCO2014, data/scenes."""
    split: str = "train"
    """Id list to train on."""
    size: tuple[int, int] | None = (321, 321)
    """Height and width of the network's input in training, pixels; None: `area` pixels in the
    shape that most images of the data set have."""
    area: int = 38400
    """Pixels of the input where `size` is None."""
    fit: Literal["warp", "crop", "window"] = "warp"
    """How an image becomes input. warp: resized to `size`. crop: scaled, then a crop of `size`; at
    test the image's own size. window: a random part, resized to `size`; at test the whole image,
    of as many pixels as `size`."""
    long: tuple[int, int] | None = None
    """With crop: range of the image's longer side before the crop, pixels."""
    scale: tuple[float, float] | None = None
    """With crop: range of the factor to the image's own size before the crop."""
    window: tuple[float, float] | None = None
    """With window: range of the part's sides, as shares of the image's."""
    jitter: tuple[float, float, float, float] | None = None
    """Largest change of brightness, contrast, saturation and hue; None: no change."""
    mirror: bool = False
    """Flip half of the training images, with their cues or masks."""
    variants: int = 0
    """With window: inputs that are made of an image, epoch by epoch in turn: the whole image, then
    random parts (ours, for trunks that do not learn); 0: a new random part in every epoch."""
    test_long: int = 0
    """With crop: longer side of images at test, pixels; 0: their own size."""

    def check(self) -> None:
        """Raise UserError where a field contradicts another."""
        if self.fit != "crop" and (self.long or self.scale or self.test_long):
            raise UserError("--long, --scale and --test-long go with --fit crop")
        if (self.fit == "window") != bool(self.window):
            raise UserError("--window goes with --fit window, and is needed there")
        if self.variants < 0 or (self.variants and self.fit != "window"):
            raise UserError("--variants goes with --fit window, and is 0 or more")
        if self.long and self.scale:
            raise UserError("--long and --scale exclude each other: give one")

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width at which an image of `size` enters the network at test, at scale 1."""
        assert self.size is not None, "the size comes from the data set first"
        if self.fit == "warp":
            return self.size
        import torch  # takes seconds, which programs without a network need not wait

        # torch's own functions, so that a program can be recorded for images of any size.
        if self.fit == "window":
            factor = torch.sym_sqrt(self.size[0] * self.size[1] / (size[0] * size[1]))
            # Multiples of 16, which strided networks halve without a rest.
            units = (torch.sym_int(side * factor / 16 + 0.5) for side in size)
            height, width = (16 * torch.sym_max(2, unit) for unit in units)
        elif self.test_long:
            factor = self.test_long / torch.sym_max(*size)
            height, width = (torch.sym_max(1, torch.sym_int(side * factor + 0.5)) for side in size)
        else:
            return size
        return height, width


@dataclass(frozen=True)
class Solver:
    """Optimiser and length of the training; defaults are those of SEC's solver.prototxt."""

    seed: int = 0
    """Seed of the weights, the order of images, the augmentation and dropout."""
    steps: int | None = 8000
    """Optimiser steps; None: `epochs` decide."""
    epochs: float | None = None
    """Passes over the training images; read only where `steps` is None."""
    batch: int = 15
    """Images a step, over all processes together."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum, or AdamW (ours: it trains from scratch in fewer steps)."""
    lr: float = 1e-3
    """Base learning rate."""
    head_factor: float = 10.0
    """Multiplies the learning rate of layers that start at random (SEC's train.prototxt)."""
    bias_factor: float = 2.0
    """Multiplies the learning rate of biases and normalisation layers (SEC's train.prototxt)."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 5e-4
    """Weight decay of weights."""
    decay_all: bool = False
    """Decay biases and normalisation layers as well."""
    policy: Literal["step", "poly", "cosine"] = "step"
    """How the learning rate falls: by a factor every so often, as (1 - t)^0.9, or as a cosine."""
    decay_every: int = 2000
    """Steps between two cuts of the step policy."""
    decay_factor: float = 0.1
    """What a cut multiplies the learning rate by."""

    # -- ours: not in the publication ------------------------------------------------------------
    max_norm: float = 0.0
    """Largest norm of the gradient; 0: any (ours, for small batches)."""
    warmup: int = 0
    """Steps over which the learning rate rises linearly from 0 (ours, for AdamW)."""

    def total_steps(self, num_images: int) -> int:
        """Optimiser steps on a data set of that many images.

        Raises:
            UserError: where neither steps nor epochs are given.
        """
        if self.steps is not None:
            return self.steps
        if self.epochs is None:
            raise UserError("the recipe has no length: give --steps or --epochs")
        return max(1, round(self.epochs * num_images / self.batch))

    def scaled(self, factor: float) -> "Solver":
        """The same number of passes over `factor` times as many images."""
        if self.steps is None:
            return self
        steps, every = round(self.steps * factor), round(self.decay_every * factor)
        return replace(self, steps=steps, decay_every=every)


@dataclass(frozen=True)
class Prediction:
    """How test.py predicts by default."""

    test_scales: tuple[float, ...] = (1.0,)
    """Sizes relative to the input size; scores are averaged."""
    test_mirror: bool = False
    """Average with the prediction on the mirrored image."""
    test_crf: str = ""
    """Preset of the dense CRF, widths in pixels of the image; empty: none."""
    test_crf_scale: float | None = 1.0
    """Divides the CRF's widths; None: the image's longer side counts as 500 pixels, as in VOC."""

    # -- ours: not in the publication ------------------------------------------------------------
    test_crf_least: float = 0.0
    """Classes whose score is nowhere in the image as high are left out of the CRF, which takes less
    time (ours)."""

    def crf_scale(self, size: tuple[int, int]) -> float:
        """What the CRF's widths are divided by for an image of that height and width."""
        return scale_of_widths(self.test_crf_scale, size)


def scale_of_widths(scale: float | None, size: Sequence[int]) -> float:
    """What a CRF's widths are divided by on an image or grid of that height and width.

    Without a `scale` its longer side counts as 500 pixels, as in VOC. UserError for 0 or less.
    """
    if scale is not None and scale <= 0:
        raise UserError(f"a CRF's scale divides its widths and must be above 0, not {scale:g}")
    return 500 / max(size) if scale is None else scale


def change(recipe: T, **values: Any) -> T:
    """A recipe with other values of single fields, or other groups.

    Values go by the names of the flags, such as lr=0.1; where two groups have a field of one name,
    "group.field" is the second one's. A whole group goes by its own name. TypeError for a name that
    the recipe does not have.
    """
    groups: dict[str, Any] = {}
    taken: set[str] = set()
    for group in fields(recipe):  # type: ignore[arg-type]
        whole = is_dataclass(values.get(group.name))
        content = values.pop(group.name) if whole else getattr(recipe, group.name)
        given = {}
        for field in fields(content):
            flag = f"{group.name}.{field.name}" if field.name in taken else field.name
            taken.add(flag)
            if flag in values:
                given[field.name] = values.pop(flag)
        groups[group.name] = replace(content, **given)
    if values:
        raise TypeError(f"{type(recipe).__name__} has no {', '.join(values)}")
    return replace(recipe, **groups)  # type: ignore[type-var]
