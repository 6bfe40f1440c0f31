"""VGG16 trunk and DeepLab-LargeFOV.

Layers carry their Caffe names (conv1_1 ... conv5_3, fc6, fc7), so a converted Caffe state dict
loads as it is. Sizes are arguments: the same classes give the published networks and narrow
ones that train from scratch on a laptop.
"""

from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from network.normalise import Normalise
from network.weight import Report, load_vgg


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

    # -- ours: not in the publication ------------------------------------------------------------
    norm: bool = False
    """Batch normalisation after each convolution, for training from scratch (ours)."""

    def trunk(self) -> "VGGTrunk":
        """Build the trunk, without weights."""
        return VGGTrunk(self)

    def load(self, network: nn.Module) -> Report:
        """Copy `weights` into a network that holds the trunk; returns the report of keys."""
        return load_vgg(network, self.weights)


class VGGTrunk(nn.Module):
    """The five convolution blocks, each followed by a max pool of stride 2, 1, or none (0)."""

    def __init__(self, config: VGG16 = VGG16()):
        super().__init__()
        self.normalise = Normalise(config.convention)
        self.channels, self.pool, self.window = config.width, config.pool, config.pool_size
        self.layers: list[list[str]] = []  # names by block, a pool as "pool1" ... "pool5"
        channels = 3
        blocks = zip(config.width, config.depth, config.dilation, config.pool)
        for block, (out, count, rate, pool) in enumerate(blocks, start=1):
            names = [f"conv{block}_{layer}" for layer in range(1, count + 1)]
            for name in names:
                self.add_module(name, nn.Conv2d(channels, out, 3, padding=rate, dilation=rate))
                if config.norm:
                    self.add_module(name.replace("conv", "norm"), nn.BatchNorm2d(out))
                channels = out
            self.layers.append(names + [f"pool{block}"] * bool(pool))
        self.norm = config.norm
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def layer(self, name: str, x: Tensor) -> Tensor:
        """One convolution with its normalisation and ReLU."""
        x = self.get_submodule(name)(x)
        if self.norm:
            x = self.get_submodule(name.replace("conv", "norm"))(x)
        return torch.relu(x)

    def forward(self, x: Tensor, first: str | None = None, last: str | None = None) -> Tensor:
        """Features (N, channels, h, w) of the layers after `first` up to and including `last`.

        `x` is the output of layer `first` or, without, an RGB image 0..255, (N, 3, H, W).
        """
        if first is None:
            x = self.normalise(x)
        for name in between(list(chain.from_iterable(self.layers)), first, last):
            if name.startswith("conv"):
                x = self.layer(name, x)
            else:
                stride = self.pool[int(name[4:]) - 1]
                # Window 3 is padded by 1, window 2 rounds up: both give ceil(size / stride).
                pad = 1 if self.window == 3 else 0
                x = nn.functional.max_pool2d(x, self.window, stride, pad, ceil_mode=pad == 0)
        return x

    def stages(self, image: Tensor) -> list[Tensor]:
        """Outputs of the five blocks and pools, (N, channels[k], h, w), of images as above."""
        features, x = [], image
        for first, last in pairwise([None, *(names[-1] for names in self.layers)]):
            x = self(x, first, last)
            features.append(x)
        return features


def between(steps: list[str], first: str | None, last: str | None) -> list[str]:
    """Names after `first` (None: from the start) up to and including `last` (None: to the end)."""
    begin = 0 if first is None else steps.index(first) + 1
    end = len(steps) if last is None else steps.index(last) + 1
    return steps[begin:end]


def fully_connected(
    inputs: int, outputs: int, kernel: int, dilation: int = 1, std: float | None = None
) -> nn.Conv2d:
    """A fully connected layer as a convolution of the same output size, bias 0.

    Weights are N(0, std), or by He et al. without `std`: N(0, 0.01), Caffe's choice for new
    layers, starves a trunk that has to learn from scratch of gradient for hundreds of steps.
    """
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2 * dilation, dilation=dilation)
    if std is None:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    else:
        nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
    return layer


def new_layer_std(norm: bool) -> float | None:
    """Start of a new last layer: N(0, 0.01) on pretrained trunks, He on those from scratch."""
    return None if norm else 0.01


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


class LargeFOV(nn.Module):
    """DeepLab-LargeFOV: trunk, pool5a, fc6 (3x3, dilated), fc7, fc8.

    Source: train.prototxt of the released SEC code.
    """

    new = ("fc8",)
    """Layers that no published weights exist for; they start at random and learn faster."""

    def __init__(self, trunk: VGGTrunk, num_classes: int, head: LargeFOVHead = LargeFOVHead()):
        super().__init__()
        self.trunk = trunk
        self.fc6 = fully_connected(trunk.channels[-1], head.hidden, 3, head.rate)
        self.fc7 = fully_connected(head.hidden, head.hidden, 1)
        self.fc8 = fully_connected(head.hidden, num_classes, 1, std=new_layer_std(trunk.norm))
        self.dropout = nn.Dropout(head.dropout)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, num_classes, h, w) of RGB images 0..255, (N, 3, H, W)."""
        x = self.trunk(image)
        # Caffe's average pool counts the padding in its window, as torch does by default.
        x = nn.functional.avg_pool2d(x, 3, 1, 1)
        x = self.dropout(torch.relu(self.fc6(x)))
        x = self.dropout(torch.relu(self.fc7(x)))
        return self.fc8(x)
