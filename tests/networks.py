"""Trunks of tests, from the fields of their backbones; ResNets are at stride 8 and frozen."""

from typing import Any

from network.resnet import ResNet, ResNetTrunk
from network.trunk import Timm, TimmTrunk
from network.vgg import VGG16, VGGTrunk
from network.wide import ResNet38d, WideTrunk


def vgg(width: tuple[int, ...] = VGG16.width, **fields: Any) -> VGGTrunk:
    return VGG16(width=width, **fields).trunk()


def resnet(width: tuple[int, ...] = ResNet.width, extra: int = 0, **fields: Any) -> ResNetTrunk:
    at_8 = {"stride": (2, 2, 2, 1, 1), "dilation": (1, 1, 2, 4), "norm": False}
    return ResNet(width=width, **at_8 | fields).trunk(extra)


def wide(**fields: Any) -> WideTrunk:
    return ResNet38d(**fields).trunk()


def timm_trunk(model: str, output_stride: int = 16, extra: int = 0, **fields: Any) -> TimmTrunk:
    return Timm(model, output_stride=output_stride, **fields).trunk(extra)
