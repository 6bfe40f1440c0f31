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
