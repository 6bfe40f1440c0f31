"""ResNet-38d: a wide residual network at stride 8, with the names of its public weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from base import UserError
from base.file import digest
from network.frozen import FrozenNorm
from network.normalise import Normalise
from network.source import read_state
from network.weight import Report, copy_weights, loader, without_colour


class Block(nn.Module):
    """Two 3 x 3 convolutions, each after normalisation and ReLU, added to the shortcut.

    `stride` is that of the first convolution and the shortcut, `first` its dilation.
    """

    def __init__(
        self, inputs: int, inner: int, outputs: int, stride: int = 1, first: int = 1,
        dilation: int = 1,
    ):  # fmt: skip
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = convolution(inputs, inner, 3, stride, first)
        self.bn_branch2b1 = nn.BatchNorm2d(inner)
        self.conv_branch2b1 = convolution(inner, outputs, 3, 1, dilation)
        same = stride == 1 and inputs == outputs
        self.conv_branch1 = None if same else convolution(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn_branch2a(x))
        shortcut = x if self.conv_branch1 is None else self.conv_branch1(y)
        y = torch.relu(self.bn_branch2b1(self.conv_branch2a(y)))
        return shortcut + self.conv_branch2b1(y)


class BottleneckBlock(nn.Module):
    """1 x 1, dilated 3 x 3 and 1 x 1 convolution, added to a 1 x 1 shortcut.

    A quarter and a half of `outputs` channels lie between; whole channels are dropped before the
    last two convolutions.
    """

    def __init__(self, inputs: int, outputs: int, dilation: int, dropout: float):
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = convolution(inputs, outputs // 4, 1)
        self.bn_branch2b1 = nn.BatchNorm2d(outputs // 4)
        self.conv_branch2b1 = convolution(outputs // 4, outputs // 2, 3, 1, dilation)
        self.bn_branch2b2 = nn.BatchNorm2d(outputs // 2)
        self.conv_branch2b2 = convolution(outputs // 2, outputs, 1)
        self.conv_branch1 = convolution(inputs, outputs, 1)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn_branch2a(x))
        shortcut = self.conv_branch1(y)
        y = self.dropout(torch.relu(self.bn_branch2b1(self.conv_branch2a(y))))
        y = self.dropout(torch.relu(self.bn_branch2b2(self.conv_branch2b1(y))))
        return shortcut + self.conv_branch2b2(y)


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

    # -- ours: not in the publication ------------------------------------------------------------
    norm: bool = False
    """Batch normalisation learns, for training from scratch (ours)."""

    def trunk(self) -> "WideTrunk":
        """Build the trunk, without weights."""
        return WideTrunk(self)

    def load(self, network: nn.Module) -> Report:
        """Copy `weights` into a network that holds the trunk; returns the report of keys."""
        return load_wide(network, self.weights)


class WideTrunk(FrozenNorm):
    """ResNet-38d: conv1a, four groups of blocks (b2 ... b5), two wide bottlenecks (b6, b7).

    Args:
        config: widths, strides and the rest. Without `norm`, conv1a and b2 are frozen, too.

    Source: Wu et al., "Wider or Deeper" 2016, model A1; dilations and frozen layers as in the
    released code of PSA and SEAM.
    """

    def __init__(self, config: ResNet38d = ResNet38d()):
        super().__init__()
        width, dilation = config.width, config.dilation
        self.blocks, self.norm = config.blocks, config.norm
        self.channels = (width[3], width[4], width[6])  # of the stages
        self.normalise = Normalise(config.convention)
        self.conv1a = convolution(3, width[0], 3)
        rates, strides = (1, 1, 1, dilation[0]), (*config.stride, 1)
        for group, (rate, step) in enumerate(zip(rates, strides)):
            inputs, outputs = width[group], width[group + 1]
            # Only the second convolutions of b5 double its channels.
            inner = inputs if group == 3 else outputs
            first, *others = self.names(group)
            self.add_module(first, Block(inputs, inner, outputs, step, 1, rate))
            for name in others:
                self.add_module(name, Block(outputs, inner, outputs, 1, rate, rate))
        self.b6 = BottleneckBlock(width[4], width[5], dilation[1], 0.6 * config.drop)
        self.b7 = BottleneckBlock(width[5], width[6], dilation[2], config.drop)
        self.bn7 = nn.BatchNorm2d(width[6])
        if not config.norm:
            norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
            for module in (self.conv1a, *map(self.get_submodule, self.names(0)), *norms):
                module.requires_grad_(False)

    def names(self, group: int) -> list[str]:
        """Names of the blocks of group 0 to 3: b2, b2_1, b2_2, ..."""
        first = f"b{group + 2}"
        return [first, *(f"{first}_{block}" for block in range(1, self.blocks[group]))]

    def stages(self, image: Tensor) -> list[Tensor]:
        """Features after b4, b5 and b7, rectified, of RGB images 0..255, (N, 3, H, W).

        Three of (N, channels[k], h, w), on one grid.
        """
        x = self.conv1a(self.normalise(image))
        for group in range(3):
            for name in self.names(group):
                x = self.get_submodule(name)(x)
        fourth = torch.relu(self.b5.bn_branch2a(x))
        for name in self.names(3):
            x = self.get_submodule(name)(x)
        fifth = torch.relu(self.b6.bn_branch2a(x))
        return [fourth, fifth, torch.relu(self.bn7(self.b7(self.b6(x))))]

    def forward(self, image: Tensor) -> Tensor:
        """The last of `stages`."""
        return self.stages(image)[-1]


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1
) -> nn.Conv2d:
    """Convolution without bias, by He et al.; stride 1 keeps the size."""
    padding = kernel // 2 * dilation
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer


@loader
def load_wide(network: nn.Module, source: str) -> Report:
    """Copy the public weights of ResNet-38d, converted from MXNet, into a network's `trunk`.

    `source` is "none" or the path of a state dict with the names of the released PSA and SEAM code;
    other layers of the network stay random.
    """
    if source == "torchvision":
        raise UserError(
            "torchvision has no ResNet-38d: give --weights the path of the state dict converted "
            "from MXNet (ilsvrc-cls_rna-a1_cls1000_ep-0001), or take --backbone resnet50"
        )
    report = Report(source, sha256=digest(Path(source)))
    state = {key.removeprefix("module."): value for key, value in read_state(source).items()}
    copy_weights(without_colour(network.trunk), state, report, "ResNet-38d")
    return report
