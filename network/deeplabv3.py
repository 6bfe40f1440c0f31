"""DeepLab-v3+: atrous spatial pyramid pooling on the last stage, joined with the first."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from base.tensor import resize


class Decoder(nn.Module):
    """From coarse and fine features to logits at the fine features' size.

    Args:
        coarse: channels of the last stage's features (with whatever is joined to them).
        fine: channels of the first stage's features.
        num_outputs: channels of the logits.
        low: channels that the fine features are reduced to.
        hidden: channels of the pyramid's branches and of the two 3 x 3 convolutions.
        rates: dilation of the pyramid's 3 x 3 branches; 6, 12, 18 at stride 16.
        dropout: probability of dropping elements after the pyramid and the first convolution, a
            fifth of it after the second (published: 0.5 and 0.1).
        kernel: side of the last convolution.
        bias: whether the last convolution has a bias.
        align_corners: how the pyramid's result is brought to the fine features' size.

    Source: Chen et al., ECCV 2018, with torchvision's pyramid.
    """

    def __init__(
        self,
        coarse: int,
        fine: int,
        num_outputs: int,
        low: int = 48,
        hidden: int = 256,
        rates: Sequence[int] = (6, 12, 18),
        dropout: float = 0.5,
        kernel: int = 1,
        bias: bool = True,
        align_corners: bool = False,
    ):
        super().__init__()
        from torchvision.models.segmentation.deeplabv3 import ASPP  # takes seconds to import

        self.align_corners = align_corners
        self.aspp = ASPP(coarse, rates, hidden)
        self.aspp.project[-1].p = dropout
        self.reduce = convolution(fine, low, 1)
        self.join = nn.Sequential(
            convolution(hidden + low, hidden, 3),
            nn.Dropout(dropout),
            convolution(hidden, hidden, 3),
            nn.Dropout(dropout / 5),
        )
        self.score = nn.Conv2d(hidden, num_outputs, kernel, padding=kernel // 2, bias=bias)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Logits (N, num_outputs, h, w) of features (N, coarse, h', w') and (N, fine, h, w)."""
        x = resize(self.aspp(coarse), fine.shape[-2:], self.align_corners)
        return self.score(self.join(torch.cat((x, self.reduce(fine)), dim=1)))


class DeepLabV3Plus(nn.Module):
    """Segmentation network: trunk and decoder, logits at the first stage's size.

    Args:
        trunk: features; its first convolution sees 3 + `extra` channels.
        num_outputs: channels of the logits; classes with background, or 1 for a single mask.
        low, hidden, rates, dropout, kernel, bias, align_corners: as of `Decoder`.
        extra: channels of the image after R, G, B, in [0, 1]: a map that says what to segment. The
            pyramid sees it too, resized bilinearly with aligned corners to its grid.
        join: whether the pyramid sees the last two stages, which must have one stride, and not the
            last alone.

    Source: Chen et al., ECCV 2018; the extra channels: wjlbnw/SegmentationFromLocalization.
    """

    new = ("decoder",)

    def __init__(
        self,
        trunk: nn.Module,
        num_outputs: int,
        low: int = 48,
        hidden: int = 256,
        rates: Sequence[int] = (6, 12, 18),
        dropout: float = 0.5,
        kernel: int = 1,
        bias: bool = True,
        align_corners: bool = False,
        extra: int = 0,
        join: bool = False,
    ):
        super().__init__()
        self.trunk = trunk
        self.coarse = slice(-2, None) if join else slice(-1, None)
        coarse = sum(trunk.channels[self.coarse]) + extra
        self.decoder = Decoder(
            coarse, trunk.channels[1], num_outputs, low, hidden, rates, dropout, kernel, bias,
            align_corners,
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, num_outputs, h, w) of RGB images 0..255 (and extra channels), (N, 3, H, W)."""
        stages = self.trunk.stages(image)
        fine, coarse = stages[1], torch.cat(stages[self.coarse], dim=1)
        if image.shape[1] > 3:
            prompt = resize(image[:, 3:].float(), coarse.shape[-2:], align_corners=True)
            coarse = torch.cat((coarse, prompt.to(coarse.dtype)), dim=1)
        return self.decoder(coarse, fine)


def convolution(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution without bias, batch normalisation, ReLU; the size stays."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
