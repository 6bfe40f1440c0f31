"""A localiser and a segmenter in one module."""

from torch import Tensor, nn

from network.bands import picture_channels


class LocateSegment(nn.Module):
    """Localiser and class-agnostic segmenter.

    Args:
        localiser: network whose output for RGB images are maps of its classes.
        segmenter: network with one output whose images have a channel after R, G, B: the prompt.
        fixed: the localiser does not learn, and runs as at test.
    """

    def __init__(self, localiser: nn.Module, segmenter: nn.Module, fixed: bool = False):
        super().__init__()
        self.localiser, self.segmenter, self.fixed = localiser, segmenter, fixed
        if fixed:
            localiser.requires_grad_(False).eval()
        parts = {"localiser": localiser, "segmenter": segmenter}
        self.new = tuple(f"{part}.{name}" for part in parts for name in parts[part].new)

    def train(self, mode: bool = True) -> "LocateSegment":
        """As of `nn.Module`; a fixed localiser stays as at test."""
        super().train(mode)
        if self.fixed:
            self.localiser.eval()
        return self

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        """The localiser's output for images, or the segmenter's logits for images with a prompt.

        One `forward` serves both, so that both run through the replica for several processes.

        Args:
            image: (N, 3, H, W), RGB 0..255 (or all bands of the pictures); or (N, 4, H, W) with a
                prompt in [0, 1] beside it, of which the logits are (N, 1, h, w).
        """
        plain = image.shape[1] == picture_channels(self.localiser.trunk)
        return (self.localiser if plain else self.segmenter)(image)
