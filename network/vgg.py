"""VGG16 trunk, DeepLab-LargeFOV and the two cue networks of SEC.

Layers carry their Caffe names (conv1_1 ... conv5_3, fc6, fc7), so a converted Caffe state dict
loads as it is. Sizes are arguments: the same classes give the published networks and narrow
ones that train from scratch on a laptop.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from network.normalise import Normalise

FULL = (64, 128, 256, 512, 512)


class VGGTrunk(nn.Module):
    """The five convolution blocks, each followed by a max pool of stride 2, 1, or none (0).

    Args:
        width: output channels of each block.
        pool: stride of the pool after each block; 0 leaves the pool out.
        window: side of the pools: 3 (padded by 1, DeepLab) or 2 (unpadded, plain VGG16).
        dilation: dilation of the convolutions of each block.
        depth: number of convolutions of each block.
        norm: batch normalisation after each convolution; for training from scratch.
        convention: colour convention of the weights, see `Normalise`.
    """

    def __init__(
        self,
        width: Sequence[int] = FULL,
        pool: Sequence[int] = (2, 2, 2, 1, 1),
        window: int = 3,
        dilation: Sequence[int] = (1, 1, 1, 1, 2),
        depth: Sequence[int] = (2, 2, 3, 3, 3),
        norm: bool = False,
        convention: str = "torchvision",
    ):
        super().__init__()
        self.normalise = Normalise(convention)
        self.channels = tuple(width)
        self.pool = tuple(pool)
        self.window = window
        self.layers: list[list[str]] = []
        channels = 3
        for block, (out, count, rate) in enumerate(zip(width, depth, dilation), start=1):
            names = []
            for layer in range(1, count + 1):
                name = f"conv{block}_{layer}"
                self.add_module(name, nn.Conv2d(channels, out, 3, padding=rate, dilation=rate))
                if norm:
                    self.add_module(f"norm{block}_{layer}", nn.BatchNorm2d(out))
                names.append(name)
                channels = out
            self.layers.append(names)
        self.norm = norm
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

    def steps(self) -> list[str]:
        """Names of the layers in order, pools as "pool1" ... "pool5"."""
        order = []
        for block, names in enumerate(self.layers, start=1):
            order += names
            if self.pool[block - 1]:
                order.append(f"pool{block}")
        return order

    def forward(self, x: Tensor, first: str | None = None, last: str | None = None) -> Tensor:
        """Run the layers after `first` (or from the image) up to and including `last`.

        Args:
            x: RGB image 0..255, (N, 3, H, W), or the output of layer `first`.
            first: layer whose output `x` is; None: `x` is the image, normalised here.
            last: layer to stop after; None: the end.

        Returns:
            Features, (N, channels, h, w).
        """
        if first is None:
            x = self.normalise(x)
        for name in between(self.steps(), first, last):
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
        features, first = [], None
        for block, names in enumerate(self.layers, start=1):
            last = f"pool{block}" if self.pool[block - 1] else names[-1]
            features.append(self(features[-1] if features else image, first, last))
            first = last
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


class LargeFOV(nn.Module):
    """DeepLab-LargeFOV: trunk, pool5a, fc6 (3x3, dilated), fc7, fc8.

    Args:
        trunk: features, at stride 8 as published.
        num_classes: classes with background.
        hidden: channels of fc6 and fc7.
        rate: dilation of fc6; 12 at stride 8.
        dropout: probability of dropping single elements after fc6 and fc7.

    Source: train.prototxt of the released SEC code.
    """

    new = ("fc8",)
    """Layers that no published weights exist for; they start at random and learn faster."""

    def __init__(
        self,
        trunk: VGGTrunk,
        num_classes: int,
        hidden: int = 1024,
        rate: int = 12,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.trunk = trunk
        self.fc6 = fully_connected(self.trunk.channels[-1], hidden, 3, rate)
        self.fc7 = fully_connected(hidden, hidden, 1)
        self.fc8 = fully_connected(hidden, num_classes, 1, std=new_layer_std(self.trunk.norm))
        self.dropout = nn.Dropout(dropout)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, num_classes, h, w) of RGB images 0..255, (N, 3, H, W)."""
        x = self.trunk(image)
        # Caffe's average pool counts the padding in its window, as torch does by default.
        x = nn.functional.avg_pool2d(x, 3, 1, 1)
        x = self.dropout(torch.relu(self.fc6(x)))
        x = self.dropout(torch.relu(self.fc7(x)))
        return self.fc8(x)


HEAD_STD = {"sec": 0.005, "mxnet": 0.01}
"""Start N(0, std) of the cue networks' heads on a pretrained trunk, by style."""

HEAD_NEW = {"sec": ("score",), "mxnet": ("fc6", "fc7", "score")}
"""Layers of the heads that learn faster; SEC's solver gives fc6 and fc7 the trunk's rate."""


class ForegroundCueNet(nn.Module):
    """Classifier whose class activation maps are the foreground cues.

    fc6 and fc7 are 3 x 3 convolutions, then the global average and a linear layer. Its weights
    applied before the average give one map per class.

    Args:
        trunk: features, at stride 8 as published: VGG16 without pools 4 and 5 (SEC), ResNet-50
            whose stages 3 and 4 have neither stride nor dilation (SEC-MXNet).
        num_tags: foreground classes.
        hidden, dropout: as in `LargeFOV`.
        style: "sec": no ReLU after fc7, no bias of the scores, only the scores learn faster;
            "mxnet": ReLU, bias, and all three layers of the head learn faster.

    Source: weak-localization/foreground of the released SEC code (its deploy file has no ReLU
    after fc7); symbols/fg_cue_vgg16.py of ascust/SEC-MXNet. Differs: on a trunk from scratch the
    head starts after He.
    """

    def __init__(
        self,
        trunk: nn.Module,
        num_tags: int,
        hidden: int = 1024,
        dropout: float = 0.5,
        style: str = "sec",
    ):
        super().__init__()
        self.trunk = trunk
        self.new = HEAD_NEW[style]
        self.last_relu = style == "mxnet"
        std = None if trunk.norm else HEAD_STD[style]
        self.fc6 = fully_connected(trunk.channels[-1], hidden, 3, std=std)
        self.fc7 = fully_connected(hidden, hidden, 3, std=std)
        self.score = fully_connected(hidden, num_tags, 1, std=std)
        if style == "sec":
            self.score.bias = None
        self.dropout = nn.Dropout(dropout)

    def feature(self, image: Tensor) -> Tensor:
        x = self.dropout(torch.relu(self.fc6(self.trunk(image))))
        x = self.fc7(x)
        return self.dropout(torch.relu(x) if self.last_relu else x)

    def forward(self, image: Tensor) -> Tensor:
        """Class logits (N, num_tags) of RGB images 0..255, (N, 3, H, W)."""
        return self.score(self.feature(image).mean(dim=(2, 3), keepdim=True)).flatten(1)

    def cam(self, image: Tensor) -> Tensor:
        """Class activation maps before any cut, without bias, (N, num_tags, h, w)."""
        return nn.functional.conv2d(self.feature(image), self.score.weight)


class BackgroundCueVGG(nn.Module):
    """VGG16 classifier whose gradient at one of its layers is a saliency map.

    Args:
        trunk: features.
        num_tags: foreground classes.
        size: (height, width) of its input; a dense head depends on it.
        head: "dense", the fully connected layers of VGG16, or "average", 3 x 3 convolutions and
            the global average: dense layers need a pretrained trunk or far more images.
        layer: where the gradient is taken.
        hidden, dropout: as in `LargeFOV`.
        style: "sec": only the scores learn faster; "mxnet": all three layers of the head do.

    Source: weak-localization/background of the released SEC code (dense, conv4_1);
    symbols/bg_cue_vgg16.py of ascust/SEC-MXNet. Differs: as of `ForegroundCueNet`.
    """

    def __init__(
        self,
        trunk: nn.Module,
        num_tags: int,
        size: tuple[int, int],
        hidden: int = 1024,
        dropout: float = 0.5,
        head: str = "dense",
        layer: str = "conv4_1",
        style: str = "sec",
    ):
        super().__init__()
        self.trunk = trunk
        self.new = HEAD_NEW[style]
        self.layer = layer
        self.dense = head == "dense"
        kernel = 3
        inputs = self.inputs = self.channels()
        if self.dense:
            with torch.no_grad():  # evaluating, so that no running mean sees the zeros
                height, width = self.trunk.eval()(torch.zeros(1, 3, *size)).shape[-2:]
            self.trunk.train()
            inputs, kernel = inputs * height * width, 1
        std = None if self.trunk.norm else HEAD_STD[style]
        self.fc6 = fully_connected(inputs, hidden, kernel, std=std)
        self.fc7 = fully_connected(hidden, hidden, kernel, std=std)
        self.score = fully_connected(hidden, num_tags, 1, std=std)
        self.dropout = nn.Dropout(dropout)

    def channels(self) -> int:
        """Channels of the head's input."""
        return self.trunk.channels[-1]

    def reduce(self, feature: Tensor) -> Tensor:
        """Reduce the trunk's output to `channels()`."""
        return feature

    def classify(self, feature: Tensor) -> Tensor:
        """Class logits (N, num_tags) of the output of `layer`."""
        x = self.reduce(self.trunk(feature, first=self.layer))
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
