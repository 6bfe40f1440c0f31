"""The families of backbones that a recipe can have."""

from network.resnet import ResNet
from network.transformer import Transformer
from network.trunk import Timm
from network.vgg import VGG16
from network.wide import ResNet38d

Backbone = VGG16 | ResNet | ResNet38d | Timm | Transformer
"""Families of backbones, each with its own words; a trunk is built of one."""

__all__ = ["VGG16", "Backbone", "ResNet", "ResNet38d", "Timm", "Transformer"]
