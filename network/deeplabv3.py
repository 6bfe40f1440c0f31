"""DeepLab-v3+: atrous spatial pyramid pooling on the last stage, and fine features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from base.tensor import resize
from network.bands import picture_channels


@dataclass(frozen=True)
class DecoderHead:
    """DeepLab-v3+'s pyramid and decoder, on ResNet or a network of timm; defaults are those of the
    released RecurSeed network."""

    low: int = 256
    """Channels that the features of the second stage are reduced to."""
    hidden: int = 256
    """Channels of the pyramid and the decoder."""
    rates: tuple[int, ...] = (6, 12, 18)
    """Dilations of the pyramid."""
    dropout: float = 0.5
    """Probability of dropping elements after the pyramid and the decoder's first convolution; a
    fifth of it after the second."""
    join: bool = False
    """The pyramid sees the last two stages, which must have one stride, and not the last alone."""

    # -- ours: not in the publication ------------------------------------------------------------
    fine: bool = False
    """Logits at the first stage's stride, 4, from a second step that sees its features, instead of
    at the second's, 8 (ours): for things of a few pixels' width. The chains give this flag where
    shape.json names one."""


class Decoder(nn.Module):
    """From the features of all stages to logits at the size of the second stage, or of the first
    where the head is `fine`.

    Args:
        channels: those of each stage.
        kernel: side of the last convolution.
        bias: whether the last convolution has a bias.
        align_corners: how the pyramid's result is resized to the fine features.
        extra: channels of a prompt, which the pyramid sees.

    Source: Chen et al., ECCV 2018, with torchvision's pyramid.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_outputs: int,
        head: DecoderHead = DecoderHead(),
        kernel: int = 1,
        bias: bool = True,
        align_corners: bool = False,
        extra: int = 0,
    ):
        super().__init__()
        from torchvision.models.segmentation.deeplabv3 import ASPP  # takes seconds to import

        self.align_corners = align_corners
        self.coarse = slice(-2 if head.join else -1, None)
        hidden, low, dropout = head.hidden, head.low, head.dropout
        self.aspp = ASPP(sum(channels[self.coarse]) + extra, head.rates, hidden)
        self.aspp.project[-1].p = dropout
        self.reduce = convolution(channels[1], low, 1)
        first, second = convolution(hidden + low, hidden, 3), convolution(hidden, hidden, 3)
        self.join = nn.Sequential(first, nn.Dropout(dropout), second, nn.Dropout(dropout / 5))
        if head.fine:
            self.reduce_finest = convolution(channels[0], low, 1)
            self.join_finest = convolution(hidden + low, hidden, 3)
        self.score = nn.Conv2d(hidden, num_outputs, kernel, padding=kernel // 2, bias=bias)

    def forward(self, stages: Sequence[Tensor], prompt: Tensor | None = None) -> Tensor:
        """Logits (N, num_outputs, h, w) of features (N, channels[k], ., .), and of a prompt
        (N, extra, H, W) of any size, which is resized with aligned corners."""
        finest, fine, coarse = stages[0], stages[1], torch.cat(stages[self.coarse], dim=1)
        if prompt is not None:
            prompt = resize(prompt.float(), coarse.shape[-2:], align_corners=True)
            coarse = torch.cat((coarse, prompt.to(coarse.dtype)), dim=1)
        x = resize(self.aspp(coarse), fine.shape[-2:], self.align_corners)
        x = self.join(torch.cat((x, self.reduce(fine)), dim=1))
        if hasattr(self, "join_finest"):
            x = resize(x, finest.shape[-2:], self.align_corners)
            x = self.join_finest(torch.cat((x, self.reduce_finest(finest)), dim=1))
        return self.score(x)


class DeepLabV3Plus(nn.Module):
    """Segmentation network: trunk and decoder.

    Args:
        trunk: features; its first convolution sees 3 + `extra` channels.
        num_outputs: channels of the logits; classes with background, or 1 for a single mask.
        options: of `Decoder`; its `extra` channels follow R, G, B, in [0, 1]: a map of what to
            segment (prompt).

    Source: Chen et al., ECCV 2018; the extra channels: wjlbnw/SegmentationFromLocalization.
    """

    new = ("decoder",)

    def __init__(
        self, trunk: nn.Module, num_outputs: int, head: DecoderHead = DecoderHead(), **options: Any
    ):
        super().__init__()
        self.trunk = trunk
        self.decoder = Decoder(trunk.channels, num_outputs, head, **options)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, num_outputs, h, w) of RGB images 0..255 (and extra channels), (N, 3, H, W)."""
        bands = picture_channels(self.trunk)
        prompt = image[:, bands:] if image.shape[1] > bands else None
        return self.decoder(self.trunk.stages(image), prompt)


def convolution(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution without bias, batch normalisation, ReLU; the size stays."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
