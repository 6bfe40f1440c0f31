"""Segmentation networks with atrous spatial pyramid pooling: parallel branches, logits summed."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from network.resnet import ResNetTrunk
from network.vgg import VGGTrunk, fully_connected, new_layer_std


@dataclass(frozen=True)
class PyramidHead:
    """DeepLab-v2's parallel branches, on VGG16 or ResNet; defaults: DSRG's train-s.prototxt."""

    hidden: int = 1024
    """Channels of fc6 and fc7 in each branch, on VGG16."""
    rates: tuple[int, ...] = (6, 12, 18, 24)
    """Dilation of each branch's fc6."""
    dropout: float = 0.5
    """Probability of dropping single elements after fc6 and fc7, on VGG16."""


class VGGPyramid(nn.Module):
    """VGG16 trunk, pool5a, and one fc6 - fc7 - fc8 branch for each dilation; logits summed.

    Source: DeepLab-v2's ASPP-L on VGG16, as in train-s.prototxt of the released DSRG code.
    """

    def __init__(self, trunk: VGGTrunk, num_classes: int, head: PyramidHead = PyramidHead()):
        super().__init__()
        self.trunk = trunk
        std = new_layer_std(trunk.norm)
        self.branches = range(1, len(head.rates) + 1)
        self.new = tuple(f"fc8_{branch}" for branch in self.branches)
        inputs, hidden = trunk.channels[-1], head.hidden
        for branch, rate in zip(self.branches, head.rates):
            self.add_module(f"fc6_{branch}", fully_connected(inputs, hidden, 3, rate))
            self.add_module(f"fc7_{branch}", fully_connected(hidden, hidden, 1))
            self.add_module(f"fc8_{branch}", fully_connected(hidden, num_classes, 1, std=std))
        self.dropout = nn.Dropout(head.dropout)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, num_classes, h, w) of RGB images 0..255, (N, 3, H, W)."""
        x = nn.functional.avg_pool2d(self.trunk(image), 3, 1, 1)
        logit = 0
        for branch in self.branches:
            fc6, fc7, fc8 = (self.get_submodule(f"fc{n}_{branch}") for n in (6, 7, 8))
            y = self.dropout(torch.relu(fc6(x)))
            logit = logit + fc8(self.dropout(torch.relu(fc7(y))))
        return logit


class ResNetPyramid(nn.Module):
    """DeepLab-v2 on a ResNet: trunk at stride 8, one 3 x 3 classifier a dilation, logits summed.

    Source: Chen et al., DeepLab-v2. Differs: one input scale, stages 3 and 4 as torchvision has
    them.
    """

    def __init__(self, trunk: ResNetTrunk, num_classes: int, head: PyramidHead = PyramidHead()):
        super().__init__()
        self.trunk = trunk
        std = new_layer_std(self.trunk.norm)
        self.new = tuple(f"score_{branch}" for branch in range(1, len(head.rates) + 1))
        for name, rate in zip(self.new, head.rates):
            layer = fully_connected(self.trunk.channels[-1], num_classes, 3, rate, std)
            self.add_module(name, layer)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, num_classes, h, w) of RGB images 0..255, (N, 3, H, W)."""
        x = self.trunk(image)
        return torch.stack([self.get_submodule(name)(x) for name in self.new]).sum(0)
