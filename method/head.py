"""Heads of segmentation networks in a recipe, and the network of a backbone and a head."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from base import UserError
from method.backbone import VGG16, Backbone, ResNet, ResNet38d, Timm
from network.deeplabv2 import RATES, ResNetPyramid, VGGPyramid
from network.deeplabv3 import DeepLabV3Plus
from network.resnet import ResNetFOV
from network.vgg import LargeFOV


@dataclass(frozen=True)
class LargeFOVHead:
    """DeepLab-LargeFOV, on VGG16 or ResNet; defaults are those of SEC's train.prototxt."""

    hidden: int = 1024
    """Channels of fc6 and fc7."""
    rate: int = 12
    """Dilation of fc6."""
    dropout: float = 0.5
    """Probability of dropping single elements after fc6 and, on VGG16, fc7. SEC-MXNet does not
    drop on VGG16."""


@dataclass(frozen=True)
class PyramidHead:
    """DeepLab-v2's parallel branches, on VGG16 or ResNet; defaults: DSRG's train-s.prototxt."""

    hidden: int = 1024
    """Channels of fc6 and fc7 in each branch, on VGG16."""
    rates: tuple[int, ...] = RATES
    """Dilation of each branch's fc6."""
    dropout: float = 0.5
    """Probability of dropping single elements after fc6 and fc7, on VGG16."""


@dataclass(frozen=True)
class DecoderHead:
    """DeepLab-v3+'s pyramid and decoder, on ResNet or a network of timm; defaults are those of the
    released RecurSeed network."""

    low: int = 256
    """Channels that the features of the second stage are reduced to."""
    hidden: int = 256
    """Channels of the pyramid and the decoder."""
    rates: tuple[int, ...] = (6, 12, 18)
    """Dilations of the pyramid."""
    dropout: float = 0.5
    """Probability of dropping elements after the pyramid and the decoder's first convolution; a
    fifth of it after the second."""
    join: bool = False
    """The pyramid sees the last two stages, which must have one stride, and not the last alone."""


Head = LargeFOVHead | PyramidHead | DecoderHead
"""Any head."""


def segmentation_network(backbone: Backbone, head: Head, num_classes: int) -> nn.Module:
    """A network that gives logits (N, num_classes, h, w) of RGB images 0..255.

    Errors: UserError for a head that does not go with the backbone.
    """
    if isinstance(head, DecoderHead) and isinstance(backbone, ResNet | Timm):
        return DeepLabV3Plus(
            backbone.trunk(), num_classes, head.low, head.hidden, head.rates, head.dropout,
            kernel=3, bias=False, join=head.join,
        )  # fmt: skip
    if isinstance(head, LargeFOVHead) and isinstance(backbone, VGG16 | ResNet):
        network = LargeFOV if isinstance(backbone, VGG16) else ResNetFOV
        return network(backbone.trunk(), num_classes, head.hidden, head.rate, head.dropout)
    if isinstance(head, PyramidHead) and isinstance(backbone, ResNet):
        return ResNetPyramid(backbone.trunk(), num_classes, head.rates)
    if isinstance(head, PyramidHead) and isinstance(backbone, VGG16):
        trunk = backbone.trunk()
        return VGGPyramid(trunk, num_classes, head.hidden, head.rates, head.dropout)
    raise refuse(backbone, type(head).__name__)


def refuse(backbone: Backbone, network: str) -> UserError:
    """The error of a network that does not come on a backbone of that family."""
    families = {VGG16: "vgg16", ResNet: "a ResNet", ResNet38d: "resnet38d"}
    family = families.get(type(backbone), f"timm:{getattr(backbone, 'model', '')}")
    return UserError(f"{network} has no network on {family}: choose another --backbone or --recipe")
