"""Trunks of tests, from the fields of their backbones; ResNets are at stride 8 and frozen."""

from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

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


class Holder(nn.Module):
    """A network that is a trunk of timm alone."""

    def __init__(self, name: str, **options: Any):
        super().__init__()
        self.trunk = timm_trunk(name, **options)


def random_statistics(network: nn.Module) -> None:
    """Give normalisation layers statistics that are not those of a network that never learned."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)


def image_of(count: int = 2, size: tuple[int, int] = (32, 40)) -> torch.Tensor:
    """The same random images, uint8, whenever they are asked for."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)


def full_state(name: str, path: Path, std: float = 0.0) -> nn.Module:
    """Random weights, with `std` if given, and statistics of a whole timm network, on disk."""
    torch.manual_seed(1)
    network = timm.create_model(name)
    for parameter in network.parameters() if std else ():
        nn.init.normal_(parameter, std=std)
    random_statistics(network)
    torch.save(network.state_dict(), path)
    return network.eval()
