"""The two cue networks of SEC, on VGG16 and on ResNet-50 (SEC-MXNet)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from network.vgg import fully_connected

HEAD_STD = {"sec": 0.005, "mxnet": 0.01}
"""Start N(0, std) of the cue networks' heads on a pretrained trunk, by style."""

HEAD_NEW = {"sec": ("score",), "mxnet": ("fc6", "fc7", "score")}
"""Layers of the heads that learn faster; SEC's solver gives fc6 and fc7 the trunk's rate."""


@dataclass(frozen=True)
class ForegroundCueHead:
    """Layers after the trunk and the cut of the maps (SEC's weak-localization/foreground)."""

    hidden: int = 1024
    """Channels of fc6 and fc7."""
    dropout: float = 0.5
    """Probability of dropping single elements after fc6 and fc7."""
    style: Literal["sec", "mxnet"] = "sec"
    """SEC's head (no ReLU after fc7, no bias, N(0, 0.005), only the scores learn faster) or that of
    SEC-MXNet (ReLU, bias, N(0, 0.01), the whole head learns faster)."""
    threshold: float = 0.2
    """Cells above this share of their map's maximum are cues."""


class ForegroundCueNet(nn.Module):
    """Classifier whose class activation maps are the foreground cues.

    fc6 and fc7 are 3 x 3 convolutions, then the global average and a linear layer. Its weights
    applied before the average give one map per class.

    Args:
        trunk: features, at stride 8 as published: VGG16 without pools 4 and 5 (SEC), ResNet-50
            whose stages 3 and 4 have neither stride nor dilation (SEC-MXNet).

    Source: weak-localization/foreground of the released SEC code (its deploy file has no ReLU
    after fc7); symbols/fg_cue_vgg16.py of ascust/SEC-MXNet. Differs: on a trunk from scratch the
    head starts after He.
    """

    def __init__(
        self, trunk: nn.Module, num_tags: int, head: ForegroundCueHead = ForegroundCueHead()
    ):
        super().__init__()
        self.trunk = trunk
        self.new = HEAD_NEW[head.style]
        self.last_relu = head.style == "mxnet"
        std = None if trunk.norm else HEAD_STD[head.style]
        self.fc6 = fully_connected(trunk.channels[-1], head.hidden, 3, std=std)
        self.fc7 = fully_connected(head.hidden, head.hidden, 3, std=std)
        self.score = fully_connected(head.hidden, num_tags, 1, std=std)
        if head.style == "sec":
            self.score.bias = None
        self.dropout = nn.Dropout(head.dropout)

    def feature(self, image: Tensor) -> Tensor:
        x = self.fc7(self.dropout(torch.relu(self.fc6(self.trunk(image)))))
        return self.dropout(torch.relu(x) if self.last_relu else x)

    def forward(self, image: Tensor) -> Tensor:
        """Class logits (N, num_tags) of RGB images 0..255, (N, 3, H, W)."""
        return self.score(self.feature(image).mean(dim=(2, 3), keepdim=True)).flatten(1)

    def cam(self, image: Tensor) -> Tensor:
        """Class activation maps before any cut, without bias, (N, num_tags, h, w)."""
        return nn.functional.conv2d(self.feature(image), self.score.weight)


@dataclass(frozen=True)
class BackgroundCueHead:
    """Layers after the trunk and the saliency (SEC's weak-localization/background)."""

    hidden: int = 1024
    """Channels of fc6 and fc7."""
    dropout: float = 0.5
    """Probability of dropping single elements after fc6 and fc7."""
    head: Literal["dense", "average"] = "dense"
    """Fully connected layers (as released), or 3 x 3 convolutions and the global average (ours)."""
    style: Literal["sec", "mxnet"] = "sec"
    """SEC's head (N(0, 0.005), only the scores learn faster) or that of SEC-MXNet (N(0, 0.01), the
    whole head learns faster)."""
    layer: str = "conv4_1"
    """Layer whose gradient is the saliency, conv4_1 of VGG16 or layer2.1 of ResNet-50 (res3b of
    SEC-MXNet); its grid is the cues' grid."""
    threshold: float = 0.1
    """Share of the grid, least salient first, that is background."""
    median: int = 3
    """Side of the median filter on the saliency, cells."""


class BackgroundCueNet(nn.Module):
    """Classifier whose gradient at one of its layers is a saliency map.

    Args:
        size: (height, width) of its input; a dense head depends on it.
        head: channels, dropout, kind of the layers, style, and where the gradient is taken. Dense
            layers need a pretrained trunk or far more images than the average.
        adapt: a 1 x 1 convolution to a quarter of the channels stands before the head, as on
            ResNet, whose dense head would else have four times the weights.

    Source: weak-localization/background of the released SEC code (dense, conv4_1); the background
    cue networks of ascust/SEC-MXNet. Differs: as of `ForegroundCueNet`.
    """

    def __init__(
        self,
        trunk: nn.Module,
        num_tags: int,
        size: tuple[int, int],
        head: BackgroundCueHead = BackgroundCueHead(),
        adapt: bool = False,
    ):
        super().__init__()
        self.trunk = trunk
        self.new = ("adapt",) * adapt + HEAD_NEW[head.style]
        self.layer = head.layer
        self.dense = head.head == "dense"
        kernel = 3
        inputs = channels = trunk.channels[-1] // (4 if adapt else 1)
        if self.dense:
            with torch.no_grad():  # evaluating, so that no running mean sees the zeros
                height, width = self.trunk.eval()(torch.zeros(1, 3, *size)).shape[-2:]
            self.trunk.train()
            inputs, kernel = inputs * height * width, 1
        std = None if trunk.norm else HEAD_STD[head.style]
        self.fc6 = fully_connected(inputs, head.hidden, kernel, std=std)
        self.fc7 = fully_connected(head.hidden, head.hidden, kernel, std=std)
        self.score = fully_connected(head.hidden, num_tags, 1, std=std)
        self.adapt = fully_connected(trunk.channels[-1], channels, 1, std=std) if adapt else None
        self.dropout = nn.Dropout(head.dropout)

    def classify(self, feature: Tensor) -> Tensor:
        """Class logits (N, num_tags) of the output of `layer`."""
        x = self.trunk(feature, first=self.layer)
        if self.adapt is not None:
            x = torch.relu(self.adapt(x))
        if self.dense:
            x = x.flatten(1)[:, :, None, None]
        x = self.dropout(torch.relu(self.fc6(x)))
        x = self.dropout(torch.relu(self.fc7(x)))
        return self.score(x.mean(dim=(2, 3), keepdim=True)).flatten(1)

    def forward(self, image: Tensor) -> Tensor:
        """Class logits (N, num_tags) of RGB images 0..255, (N, 3, H, W)."""
        return self.classify(self.trunk(image, last=self.layer))

    def saliency(self, image: Tensor) -> Tensor:
        """Largest absolute gradient of the summed logits over the layer's channels, (N, h, w)."""
        with torch.inference_mode(False), torch.enable_grad():  # also called while predicting
            feature = self.trunk(image.clone(), last=self.layer).detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.classify(feature).sum(), feature)
        return gradient.abs().amax(dim=1)
