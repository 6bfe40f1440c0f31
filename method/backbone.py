"""Trunks by family, each with its own words: what a recipe says of its network's backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from network.normalise import mean_colour
from network.resnet import ResNetTrunk
from network.trunk import TimmTrunk, load_timm
from network.vgg import VGGTrunk
from network.weight import Report, load_resnet, load_vgg
from network.wide import WideTrunk, load_wide


@dataclass(frozen=True)
class VGG16:
    """VGG16's five blocks; the defaults are those of SEC's train.prototxt."""

    weights: str = "torchvision"
    """Start from: none, torchvision, timm:NAME, or the path of a state dict."""
    convention: Literal["torchvision", "caffe"] = "torchvision"
    """Mean, scale and channel order that the weights expect."""
    width: tuple[int, ...] = (64, 128, 256, 512, 512)
    """Channels of the five blocks (SEC's train.prototxt)."""
    depth: tuple[int, ...] = (2, 2, 3, 3, 3)
    """Convolutions of the five blocks (VGG16)."""
    pool: tuple[int, ...] = (2, 2, 2, 1, 1)
    """Stride of the max pool after each block; 0: no pool (SEC's train.prototxt)."""
    pool_size: int = 3
    """Side of the pools, 3 (padded) or 2 pixels."""
    dilation: tuple[int, ...] = (1, 1, 1, 1, 2)
    """Dilation of each block's convolutions (SEC's train.prototxt)."""
    norm: bool = False
    """Batch normalisation after each convolution, for training from scratch (ours)."""

    def trunk(self) -> VGGTrunk:
        """Build the trunk, without weights."""
        return VGGTrunk(
            self.width, self.pool, self.pool_size, self.dilation, self.depth, self.norm,
            self.convention,
        )  # fmt: skip

    def load(self, network: nn.Module) -> Report:
        """Copy `weights` into a network that holds the trunk; returns the report of keys."""
        return load_vgg(network, self.weights)

    def fill(self) -> tuple[int, int, int]:
        """R, G, B, 0..255, of what lies outside an image."""
        return mean_colour(self.convention)


@dataclass(frozen=True)
class ResNet:
    """Stem and four stages of bottleneck blocks; the defaults are ResNet-50 at stride 16."""

    weights: str = "torchvision"
    """Start from: none, torchvision, timm:NAME, or the path of a state dict."""
    convention: Literal["torchvision", "caffe"] = "torchvision"
    """Mean, scale and channel order that the weights expect."""
    width: tuple[int, ...] = (64, 64, 128, 256, 512)
    """Channels of the stem and inside the blocks of the four stages."""
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    """Blocks of the four stages; (3, 4, 23, 3) is ResNet-101."""
    stride: tuple[int, ...] = (2, 2, 2, 2, 1)
    """Strides of the stem's convolution, of its pool, and of stages 2 to 4."""
    dilation: tuple[int, ...] = (1, 1, 1, 1)
    """Dilation of the four stages' 3 x 3 convolutions."""
    multigrid: tuple[int, ...] = (1,)
    """Factors of the dilation in the blocks of the last stage (DeepLab-v3: 1 2 4)."""
    norm: bool = True
    """Batch normalisation learns; without, it keeps the statistics of the weights."""

    def trunk(self, extra: int = 0) -> ResNetTrunk:
        """Build the trunk, without weights; `extra` channels of the image follow R, G, B."""
        return ResNetTrunk(
            self.width, self.blocks, self.stride, self.dilation, self.norm, self.convention,
            self.multigrid, extra,
        )  # fmt: skip

    def load(self, network: nn.Module) -> Report:
        """Copy `weights` into a network that holds the trunk; returns the report of keys."""
        return load_resnet(network, self.weights)

    def fill(self) -> tuple[int, int, int]:
        """R, G, B, 0..255, of what lies outside an image."""
        return mean_colour(self.convention)


@dataclass(frozen=True)
class ResNet38d:
    """ResNet-38d of PSA and SEAM: conv1a and the blocks b2 to b7."""

    weights: str = "data/ilsvrc-cls_rna-a1_cls1000_ep-0001.pth"
    """Start from: none, or the path of the state dict converted from MXNet."""
    convention: Literal["torchvision", "caffe"] = "torchvision"
    """Mean, scale and channel order that the weights expect."""
    width: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096)
    """Channels of conv1a and of b2 to b7."""
    blocks: tuple[int, ...] = (3, 3, 6, 3)
    """Blocks of b2 to b5."""
    stride: tuple[int, ...] = (2, 2, 2)
    """Strides of b2 to b4."""
    dilation: tuple[int, ...] = (2, 4, 4)
    """Dilation of b5 to b7."""
    drop: float = 0.5
    """Share of the channels dropped in b7; b6 drops 0.6 of it."""
    norm: bool = False
    """Batch normalisation learns, for training from scratch (ours)."""

    def trunk(self) -> WideTrunk:
        """Build the trunk, without weights."""
        return WideTrunk(
            self.width, self.blocks, self.stride, self.dilation, self.drop, self.norm,
            self.convention,
        )  # fmt: skip

    def load(self, network: nn.Module) -> Report:
        """Copy `weights` into a network that holds the trunk; returns the report of keys."""
        return load_wide(network, self.weights)

    def fill(self) -> tuple[int, int, int]:
        """R, G, B, 0..255, of what lies outside an image."""
        return mean_colour(self.convention)


@dataclass(frozen=True)
class Timm:
    """Any network of timm that gives features of its stages."""

    model: str = "tf_efficientnet_lite0"
    """timm's name of the network."""
    weights: str = "package"
    """Start from: package (what an installed pip package contains), timm or torchvision (which
    download), none, or the path of a state dict."""
    output_stride: int = 16
    """Stride of the last stage: 8, 16 or 32; the last stages are dilated for it."""
    norm: bool = False
    """Batch normalisation learns its statistics; without, it keeps those of the weights."""

    def trunk(self, extra: int = 0) -> TimmTrunk:
        """Build the trunk, without weights; `extra` channels of the image follow R, G, B."""
        return TimmTrunk(self.model, self.output_stride, self.norm, extra)

    def load(self, network: nn.Module) -> Report:
        """Copy `weights` into a network that holds the trunk; returns the report of keys."""
        return load_timm(network, self.weights)

    def fill(self) -> tuple[int, int, int]:
        """R, G, B, 0..255, of what lies outside an image."""
        return (127, 127, 127) if self.weights == "package" else mean_colour("torchvision")


Backbone = VGG16 | ResNet | ResNet38d | Timm
"""Any trunk."""
