"""What every recipe has: data, length, optimiser. A stage adds its own fields in its own file."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DataRecipe:
    """What is learned from."""

    dataset: str = "scenes"
    """voc, coco, scenes, or the path of a folder in VOC layout."""
    root: str = ""
    """Where voc, coco or scenes lies; empty: data/VOC2012, data/COCO2014, data/scenes."""
    split: str = "train"
    """Id list to train on."""
    size: tuple[int, int] = (321, 321)
    """Height and width of the network's input, pixels."""
    mirror: bool = False
    """Flip half of the training images, with their cues or masks."""


@dataclass(frozen=True)
class Recipe(DataRecipe):
    """Start, length and optimiser; defaults without a source: solver.prototxt of SEC."""

    seed: int = 0
    """Seed of the weights, the order of images, the augmentation and dropout."""
    steps: int = 8000
    """Optimiser steps."""
    batch: int = 15
    """Images a step, over all devices together."""
    weights: str = "none"
    """Start from: none, torchvision, timm:NAME, or the path of a state dict."""
    convention: Literal["torchvision", "caffe"] = "torchvision"
    """Mean, scale and channel order that the weights expect."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum (the papers), or AdamW (ours: trains from scratch in fewer steps)."""
    lr: float = 1e-3
    """Base learning rate; the heads' multipliers come on top."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 5e-4
    """Weight decay of weights."""
    decay_biases: bool = False
    """Whether biases and normalisation layers decay too."""
    bias_factor: float = 2.0
    """Learning rate of biases and normalisation layers over that of weights, with SGD."""
    policy: Literal["step", "poly", "cosine"] = "step"
    """How the learning rate falls: by a factor every so often, as (1 - t)^0.9, or as a cosine."""
    decay_every: int = 2000
    """Steps between two cuts of the step policy."""
    decay_factor: float = 0.1
    """What a cut multiplies the learning rate by."""
    warmup: int = 0
    """Steps over which the learning rate rises linearly from 0 (ours, for AdamW)."""


@dataclass(frozen=True)
class TrunkRecipe(Recipe):
    """Shape of a network; the defaults are the published VGG16.

    On a ResNet the five blocks are the stem and the four stages: `width` counts the channels
    inside their blocks, `pool` the strides of the stem's convolution, its pool and stages 2 to 4.
    """

    width: tuple[int, ...] = (64, 128, 256, 512, 512)
    """Channels of the five blocks (train.prototxt of SEC)."""
    depth: tuple[int, ...] = (2, 2, 3, 3, 3)
    """Convolutions of the five blocks (VGG16)."""
    hidden: int = 1024
    """Channels of fc6 and fc7 (train.prototxt of SEC)."""
    pool: tuple[int, ...] = (2, 2, 2, 1, 1)
    """Stride of the pool after each block; 0: no pool."""
    window: int = 3
    """Side of the pools, 3 or 2 pixels."""
    dilation: tuple[int, ...] = (1, 1, 1, 1, 2)
    """Dilation of each block's convolutions."""
    dropout: float = 0.5
    """Probability of dropping single elements after fc6 and fc7 (train.prototxt of SEC).
    SEC-MXNet drops in its foreground network and in SEC on ResNet-50, after fc6, but neither in its
    background network nor in SEC on VGG16. Ours: as in SEC, for thousands of steps see the same
    images; the recipes "mxnet" and "paper-resnet50" follow SEC-MXNet."""
    norm: bool = False
    """Batch normalisation that learns its statistics, for training from scratch (ours). Without,
    VGG16 has none, and ResNet-50 keeps the statistics of its weights (SEC-MXNet)."""

    def trunk(self) -> dict:
        """Arguments of `network.vgg.Trunk` and `network.resnet.ResNetTrunk`."""
        names = ("width", "depth", "pool", "window", "dilation", "norm", "convention")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class VGGRecipe(TrunkRecipe):
    """The same with a choice of trunks."""

    backbone: Literal["vgg16", "resnet50"] = "vgg16"
    """Trunk (the paper: vgg16); each has recipes of its own, which --backbone chooses."""


@dataclass(frozen=True)
class ResNetRecipe(TrunkRecipe):
    """Shape of a DeepLab-v3+; the defaults are ResNet-50 at stride 16, torchvision's weights."""

    fit: Literal["native", "warp"] = "native"
    """Crops of images at (about) their own size, or whole images warped to `size` (ours, for small
    recipes, which then work on images of any size)."""
    weights: str = "torchvision"
    """Start from: none, torchvision, or the path of a state dict."""
    width: tuple[int, ...] = (64, 64, 128, 256, 512)
    """Channels of the stem and inside the blocks of the four stages (ResNet)."""
    depth: tuple[int, ...] = (1, 3, 4, 6, 3)
    """Convolutions of the stem, blocks of the four stages (ResNet-50)."""
    pool: tuple[int, ...] = (2, 2, 2, 2, 1)
    """Strides of the stem's convolution, its pool, and stages 2 to 4 (released: stride 16)."""
    dilation: tuple[int, ...] = (1, 1, 1, 1, 1)
    """Dilation of each stage's 3 x 3 convolutions (released: none at stride 16)."""
    norm: bool = True
    """Batch normalisation that learns its statistics (released)."""
    hidden: int = 256
    """Channels of the pyramid and the decoder (released)."""
    low: int = 256
    """Channels that the first stage's features are reduced to (released)."""
    rates: tuple[int, ...] = (6, 12, 18)
    """Dilations of the pyramid (released)."""
    crf: str = "deeplab"
    """CRF preset at test (released)."""
    test_crf_scale: float = 1.0
    """Divides the CRF's widths at test."""


SMALL_RESNET_PLUS = {
    "fit": "warp",
    "weights": "none",
    "width": (24, 12, 16, 24, 32),
    "depth": (1, 1, 1, 1, 1),
    "pool": (2, 2, 1, 1, 1),
    "dilation": (1, 1, 1, 1, 2),
    "hidden": 48,
    "low": 24,
    "rates": (2, 4, 6),
    "dropout": 0.1,
    "test_crf_scale": 4.0,
}
"""A narrow DeepLab-v3+ that learns from scratch (ours)."""

SMOKE_RESNET_PLUS = {
    "steps": 4,
    "batch": 2,
    "size": (32, 32),
    "width": (4,) * 5,
    "hidden": 8,
    "low": 4,
}
"""What changes it to one that only shows that every line runs."""

SMALL_BASE = {
    "steps": 400,
    "batch": 16,
    "size": (80, 80),
    "mirror": True,
    "optimizer": "adamw",
    "lr": 2e-3,
    "weight_decay": 1e-2,
    "decay_biases": False,
    "policy": "poly",
    "warmup": 20,
}
"""How all small recipes learn (ours): from scratch, on a laptop."""

SMALL = {
    **SMALL_BASE,
    "width": (24, 48, 64, 96, 96),
    "depth": (1, 1, 1, 1, 1),
    "hidden": 128,
    "norm": True,
    "dropout": 0.1,
}
"""What all small recipes on VGG16 share (ours): a narrow network."""

MXNET = {"size": (320, 320), "mirror": True, "decay_every": 2000}
"""What all recipes of ascust/SEC-MXNet share, beside what SEC has too (cores/config.py)."""

RESNET = {
    **MXNET,
    "backbone": "resnet50",
    "width": (64, 64, 128, 256, 512),
    "depth": (1, 3, 4, 6, 3),
    "window": 3,
}
"""What all recipes on ResNet-50 share (symbols of ascust/SEC-MXNet)."""

SMALL_RESNET = {"backbone": "resnet50", "width": (24, 12, 16, 24, 32), "window": 3}
"""What changes the small recipes to a narrow ResNet (ours)."""

SMOKE = {
    "steps": 4,
    "batch": 2,
    "width": (4,) * 5,
    "depth": (1,) * 5,
    "hidden": 8,
    "size": (32, 32),
}
"""What changes the small recipes to ones that only show that every line runs."""
