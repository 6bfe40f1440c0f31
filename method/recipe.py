"""What every recipe has: data, length, optimiser. A stage adds its own fields in its own file."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of one stage; each stands here or in a subclass and nowhere else."""

    dataset: str = "scenes"
    """voc, coco, scenes, or the path of a folder in VOC layout."""
    root: str = ""
    """Where voc, coco or scenes lies; empty: data/VOC2012, data/COCO2014, data/scenes."""
    split: str = "train"
    """Id list to train on."""
    seed: int = 0
    """Seed of the weights, the order of images, the augmentation and dropout."""
    steps: int = 8000
    """Optimiser steps."""
    batch: int = 15
    """Images a step, over all devices together."""
    size: tuple[int, int] = (321, 321)
    """Height and width of the network's input, pixels."""
    mirror: bool = False
    """Flip half of the training images, with their cues or masks."""
    weights: str = "none"
    """Start from: none, torchvision, or the path of a state dict."""
    convention: Literal["torchvision", "caffe"] = "torchvision"
    """Mean, scale and channel order that the weights expect."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum (the papers), or AdamW (ours: trains from scratch in fewer steps)."""
    lr: float = 1e-3
    """Base learning rate; the heads' multipliers come on top."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 5e-4
    """Weight decay of weights; biases and normalisation layers have none."""
    policy: Literal["step", "poly", "cosine"] = "step"
    """How the learning rate falls: by a factor every so often, as (1 - t)^0.9, or as a cosine."""
    decay_every: int = 2000
    """Steps between two cuts of the step policy."""
    decay_factor: float = 0.1
    """What a cut multiplies the learning rate by."""
    warmup: int = 0
    """Steps over which the learning rate rises linearly from 0 (ours, for AdamW)."""


@dataclass(frozen=True)
class VGGRecipe(Recipe):
    """Shape of a network; the defaults are the published VGG16.

    On ResNet-50 the five blocks are the stem and the four stages: `width` counts the channels
    inside their blocks, `pool` the strides of the stem's convolution, its pool and stages 2 to 4.
    """

    backbone: Literal["vgg16", "resnet50"] = "vgg16"
    """Trunk (the paper: vgg16); each has recipes of its own, which --backbone chooses."""
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
        """Arguments of `network.vgg.Trunk`."""
        names = ("width", "depth", "pool", "window", "dilation", "norm", "convention")
        return {name: getattr(self, name) for name in names}


SMALL = {
    "steps": 400,
    "batch": 16,
    "size": (80, 80),
    "mirror": True,
    "optimizer": "adamw",
    "lr": 2e-3,
    "weight_decay": 1e-2,
    "policy": "poly",
    "warmup": 20,
    "width": (24, 48, 64, 96, 96),
    "depth": (1, 1, 1, 1, 1),
    "hidden": 128,
    "norm": True,
    "dropout": 0.1,
}
"""What all small recipes share (ours): a narrow network that learns from scratch on a laptop."""

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
