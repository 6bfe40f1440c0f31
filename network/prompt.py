"""A localiser and a segmenter in one module."""

from collections.abc import Sequence

from torch import Tensor, nn

from network.deeplabv3 import DeepLabV3Plus


class LocateSegment(nn.Module):
    """Localiser and class-agnostic segmenter.

    Args:
        localiser: network whose output for RGB images are maps of its classes.
        low, hidden, rates, dropout, trunk: as of `DeepLabV3Plus`, which has one output and one
            channel of the image beyond R, G, B: the prompt.
    """

    def __init__(
        self,
        localiser: nn.Module,
        low: int = 48,
        hidden: int = 256,
        rates: Sequence[int] = (6, 12, 18),
        dropout: float = 0.5,
        **trunk,
    ):
        super().__init__()
        self.localiser = localiser
        self.segmenter = DeepLabV3Plus(
            1, low, hidden, rates, dropout, extra=1, align_corners=True, **trunk
        )
        self.new = (
            *(f"localiser.{name}" for name in localiser.new),
            *(f"segmenter.{name}" for name in self.segmenter.new),
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        """The localiser's maps of RGB images (N, 3, H, W), or logits of images with a prompt.

        Args:
            image: (N, 3, H, W), RGB 0..255, or (N, 4, H, W) with a prompt in [0, 1] beside it.

        Returns:
            Of three channels what the localiser gives; of four the segmenter's logits (N, 1, h, w).

        One entrance for both, so that a replica over several processes stands before both.
        """
        return (self.localiser if image.shape[1] == 3 else self.segmenter)(image)
