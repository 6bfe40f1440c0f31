"""ResNet-50 trunk, the segmentation network of SEC-MXNet and the two cue networks.

Layers carry torchvision's names (conv1, bn1, layer1 ... layer4), so its weights load as they are.
The heads are those of the VGG16 networks, on other channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from network.frozen import FrozenNorm
from network.normalise import Normalise
from network.vgg import HEAD_STD, BackgroundCueVGG, between, fully_connected

STAGES = ("layer1", "layer2", "layer3", "layer4")


class ResNetTrunk(FrozenNorm):
    """Stem and four stages of bottleneck blocks.

    Args:
        width: channels of the stem, then of each stage's inner convolutions; a stage's output
            has four times as many.
        blocks: blocks of each stage.
        stride: of the stem's convolution, of its max pool, and of stages 2, 3 and 4.
        dilation: of each stage's 3 x 3 convolutions.
        norm: whether batch normalisation learns its statistics; if not, it keeps those of the
            weights.
        convention: colour convention of the weights, see `Normalise`.
        multigrid: factors of the dilation in the blocks of the last stage, the last one for all
            that follow; DeepLab-v3 has (1, 2, 4).
        extra: channels of the image after R, G, B; they reach the first convolution as they are.

    Source: He et al., CVPR 2016, in torchvision's form (a block's stride in its 3 x 3 convolution).
    """

    def __init__(
        self,
        width: Sequence[int] = (64, 64, 128, 256, 512),
        blocks: Sequence[int] = (3, 4, 6, 3),
        stride: Sequence[int] = (2, 2, 2, 1, 1),
        dilation: Sequence[int] = (1, 1, 2, 4),
        norm: bool = False,
        convention: str = "torchvision",
        multigrid: Sequence[int] = (1,),
        extra: int = 0,
    ):
        from torchvision.models.resnet import Bottleneck  # takes seconds to import

        super().__init__()
        self.normalise = Normalise(convention)
        self.norm = norm
        self.conv1 = nn.Conv2d(3 + extra, width[0], 7, stride[0], 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width[0])
        self.maxpool = nn.MaxPool2d(3, stride[1], 1)
        channels = width[0]
        strides = (1, *stride[2:])
        for name, inner, count, first, rate in zip(STAGES, width[1:], blocks, strides, dilation):
            stage = []
            for block in range(count):
                step = first if block == 0 else 1
                shortcut = None
                if block == 0:
                    shortcut = nn.Sequential(
                        nn.Conv2d(channels, 4 * inner, 1, step, bias=False),
                        nn.BatchNorm2d(4 * inner),
                    )
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
        """Run the parts after `first` (or from the image) up to and including `last`.

        Args:
            x: RGB image 0..255, (N, 3 + extra, H, W), or the output of part `first`.
            first: part whose output `x` is; None: `x` is the image, normalised here.
            last: part to stop after; None: the end.

        Returns:
            Features, (N, channels, h, w).
        """
        for name in between(self.steps(), first, last):
            if name == "stem":
                image = self.normalise(x[:, :3])
                if x.shape[1] > 3:
                    image = torch.cat((image, x[:, 3:].to(image.dtype)), dim=1)
                x = self.maxpool(torch.relu(self.bn1(self.conv1(image))))
            else:
                x = self.get_submodule(name)(x)
        return x

    def stages(self, image: Tensor) -> list[Tensor]:
        """Outputs of the stem and the four stages, (N, channels[k], h, w), of images as above."""
        features, first = [], None
        for last in ("stem", *(f"{s}.{len(self.get_submodule(s)) - 1}" for s in STAGES)):
            features.append(self(features[-1] if features else image, first, last))
            first = last
        return features


class ResNetFOV(nn.Module):
    """Segmentation network: trunk at stride 8, fc6 (3x3, dilated), fc7, fc8.

    Args:
        trunk: features, at stride 8 as published.
        num_classes: classes with background.
        hidden: channels of fc6 and fc7.
        rate: dilation of fc6; 12 at stride 8.
        dropout: probability of dropping single elements after fc6.

    Source: SEC network on ResNet-50 of ascust/SEC-MXNet.
    """

    new = ("fc6", "fc7", "fc8")

    def __init__(
        self,
        trunk: ResNetTrunk,
        num_classes: int,
        hidden: int = 512,
        rate: int = 12,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.trunk = trunk
        std = None if self.trunk.norm else 0.01
        self.fc6 = fully_connected(self.trunk.channels[-1], hidden, 3, rate, std)
        self.fc7 = fully_connected(hidden, hidden, 1, std=std)
        self.fc8 = fully_connected(hidden, num_classes, 1, std=std)
        self.dropout = nn.Dropout(dropout)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, num_classes, h, w) of RGB images 0..255, (N, 3, H, W)."""
        x = self.dropout(torch.relu(self.fc6(self.trunk(image))))
        return self.fc8(torch.relu(self.fc7(x)))


class BackgroundCueResNet(BackgroundCueVGG):
    """Classifier whose gradient after one of its blocks is a saliency map.

    A 1 x 1 convolution stands before the dense head, which would else have four times the weights.

    Args: as of `BackgroundCueVGG`.

    Source: background cue network on ResNet-50 of ascust/SEC-MXNet.
    """

    def __init__(
        self,
        trunk: ResNetTrunk,
        num_tags: int,
        size: tuple[int, int],
        hidden: int = 1024,
        dropout: float = 0.0,
        head: str = "dense",
        layer: str = "layer2.1",
        style: str = "mxnet",
    ):
        super().__init__(trunk, num_tags, size, hidden, dropout, head, layer, style)
        std = None if trunk.norm else HEAD_STD[style]
        self.adapt = fully_connected(trunk.channels[-1], self.inputs, 1, std=std)
        self.new = ("adapt", *self.new)

    def channels(self) -> int:
        return self.trunk.channels[-1] // 4  # 512 in the published network

    def reduce(self, feature: Tensor) -> Tensor:
        return torch.relu(self.adapt(feature))
