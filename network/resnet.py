"""ResNet trunk and the segmentation network of SEC-MXNet.

Layers carry torchvision's names (conv1, bn1, layer1 ... layer4), so its weights load as they are.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from network.frozen import FrozenNorm
from network.normalise import Normalise
from network.vgg import LargeFOVHead, between, fully_connected, new_layer_std
from network.weight import Report, load_resnet

STAGES = ("layer1", "layer2", "layer3", "layer4")


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

    def trunk(self, extra: int = 0) -> "ResNetTrunk":
        """Build the trunk, without weights; `extra` channels of the image follow R, G, B."""
        return ResNetTrunk(self, extra)

    def load(self, network: nn.Module) -> Report:
        """Copy `weights` into a network that holds the trunk; returns the report of keys."""
        return load_resnet(network, self.weights)


class ResNetTrunk(FrozenNorm):
    """Stem and four stages of bottleneck blocks; a stage has four times its blocks' channels.

    `extra` channels of the image follow R, G, B and reach the first convolution as they are.

    Source: He et al., CVPR 2016, in torchvision's form (a block's stride in its 3 x 3 convolution).
    """

    def __init__(self, config: ResNet = ResNet(), extra: int = 0):
        from torchvision.models.resnet import Bottleneck  # takes seconds to import

        super().__init__()
        width, stride, multigrid = config.width, config.stride, config.multigrid
        self.normalise = Normalise(config.convention)
        self.norm = config.norm
        self.conv1 = nn.Conv2d(3 + extra, width[0], 7, stride[0], 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width[0])
        self.maxpool = nn.MaxPool2d(3, stride[1], 1)
        channels = width[0]
        sizes = zip(STAGES, width[1:], config.blocks, (1, *stride[2:]), config.dilation)
        for name, inner, count, first, rate in sizes:
            stage = []
            for block in range(count):
                step, shortcut = 1, None
                if block == 0:
                    step, reshape = first, nn.Conv2d(channels, 4 * inner, 1, first, bias=False)
                    shortcut = nn.Sequential(reshape, nn.BatchNorm2d(4 * inner))
                factor = multigrid[min(block, len(multigrid) - 1)] if name == STAGES[-1] else 1
                stage.append(Bottleneck(channels, inner, step, shortcut, dilation=rate * factor))
                channels = 4 * inner
            self.add_module(name, nn.Sequential(*stage))
        self.channels = (width[0], *(4 * inner for inner in width[1:]))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def steps(self) -> list[str]:
        """Names of the parts in order: "stem", then each block as "layer2.0"."""
        return ["stem", *(f"{s}.{k}" for s in STAGES for k in range(len(self.get_submodule(s))))]

    def forward(self, x: Tensor, first: str | None = None, last: str | None = None) -> Tensor:
        """Features (N, channels, h, w) of the parts after `first` up to and including `last`.

        `x` is the output of part `first` or, without, an RGB image 0..255, (N, 3 + extra, H, W).
        """
        for name in between(self.steps(), first, last):
            if name == "stem":
                x = self.maxpool(torch.relu(self.bn1(self.conv1(self.inputs(x)))))
            else:
                x = self.get_submodule(name)(x)
        return x

    def stages(self, image: Tensor) -> list[Tensor]:
        """Outputs of the stem and the four stages, (N, channels[k], h, w), of images as above."""
        ends = [f"{name}.{len(self.get_submodule(name)) - 1}" for name in STAGES]
        features, x = [], image
        for first, last in pairwise([None, "stem", *ends]):
            x = self(x, first, last)
            features.append(x)
        return features


class ResNetFOV(nn.Module):
    """Segmentation network: trunk at stride 8, fc6 (3x3, dilated, the only one with dropout), fc7,
    fc8.

    Source: SEC network on ResNet-50 of ascust/SEC-MXNet.
    """

    new = ("fc6", "fc7", "fc8")

    def __init__(self, trunk: ResNetTrunk, num_classes: int, head: LargeFOVHead = LargeFOVHead()):
        super().__init__()
        self.trunk = trunk
        std = new_layer_std(trunk.norm)
        self.fc6 = fully_connected(trunk.channels[-1], head.hidden, 3, head.rate, std)
        self.fc7 = fully_connected(head.hidden, head.hidden, 1, std=std)
        self.fc8 = fully_connected(head.hidden, num_classes, 1, std=std)
        self.dropout = nn.Dropout(head.dropout)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, num_classes, h, w) of RGB images 0..255, (N, 3, H, W)."""
        x = self.dropout(torch.relu(self.fc6(self.trunk(image))))
        return self.fc8(torch.relu(self.fc7(x)))
