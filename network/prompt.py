"""A localiser and a segmenter in one module."""

from torch import Tensor, nn


class LocateSegment(nn.Module):
    """Localiser and class-agnostic segmenter.

    Args:
        localiser: network whose output for RGB images are maps of its classes.
        segmenter: network with one output whose images have a channel after R, G, B: the prompt.
    """

    def __init__(
        self,
        localiser: nn.Module,
        segmenter: nn.Module,
    ):
        super().__init__()
        self.localiser = localiser
        self.segmenter = segmenter
        self.new = (
            *(f"localiser.{name}" for name in localiser.new),
            *(f"segmenter.{name}" for name in self.segmenter.new),
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        """The localiser's maps of RGB images (N, 3, H, W), or logits of images with a prompt.

        Args:
            image: (N, 3, H, W), RGB 0..255, or (N, 4, H, W) with a prompt in [0, 1] beside it.

        Returns:
            The localiser's output for three channels; the segmenter's logits (N, 1, h, w) for four.

        One `forward` serves both, so that both run through the replica for several processes.
        """
        return (self.localiser if image.shape[1] == 3 else self.segmenter)(image)
