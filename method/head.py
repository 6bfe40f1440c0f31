"""Heads of segmentation networks in a recipe, and the network of a backbone and a head."""

from torch import nn

from base import UserError
from method.backbone import VGG16, Backbone, ResNet, ResNet38d, Timm
from network.deeplabv2 import PyramidHead, ResNetPyramid, VGGPyramid
from network.deeplabv3 import DecoderHead, DeepLabV3Plus
from network.resnet import ResNetFOV
from network.vgg import LargeFOV, LargeFOVHead

Head = LargeFOVHead | PyramidHead | DecoderHead
"""Any head."""
NETWORKS = {
    (LargeFOVHead, VGG16): LargeFOV,
    (LargeFOVHead, ResNet): ResNetFOV,
    (PyramidHead, VGG16): VGGPyramid,
    (PyramidHead, ResNet): ResNetPyramid,
}


def segmentation_network(backbone: Backbone, head: Head, num_classes: int) -> nn.Module:
    """A network that gives logits (N, num_classes, h, w) of RGB images 0..255."""
    if isinstance(head, DecoderHead) and isinstance(backbone, ResNet | Timm):
        return DeepLabV3Plus(backbone.trunk(), num_classes, head, kernel=3, bias=False)
    network = NETWORKS.get((type(head), type(backbone)))
    if network is None:
        raise refuse(backbone, type(head).__name__)
    return network(backbone.trunk(), num_classes, head)


def refuse(backbone: Backbone, network: str) -> UserError:
    """The error of a network that does not come on a backbone of that family."""
    families = {VGG16: "vgg16", ResNet: "a ResNet", ResNet38d: "resnet38d"}
    family = families.get(type(backbone), f"timm:{getattr(backbone, 'model', '')}")
    return UserError(f"{network} does not run on {family}: choose another --backbone or --recipe")
