"""Colour conventions of weights, as a layer of the network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# name -> (mean, std, channel order), all on the 0..255 range.
CONVENTION = {
    "torchvision": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "RGB"),
    # deploy.prototxt of the Caffe VGG16: mean subtracted, nothing divided, channels B, G, R.
    "caffe": ((104.0, 117.0, 123.0), (1.0, 1.0, 1.0), "BGR"),
}


class Normalise(nn.Module):
    """Normalise RGB images 0..255 as the weights of the first convolution expect.

    Args:
        colour: a key of `CONVENTION`, or mean, deviation and channel order as there.
    """

    def __init__(self, colour: str | tuple[Sequence[float], Sequence[float], str] = "torchvision"):
        super().__init__()
        self.convention = colour if isinstance(colour, str) else "of its weights"
        mean, std, self.order = CONVENTION[colour] if isinstance(colour, str) else colour
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Normalise `image`, RGB 0..255 uint8 or float, (N, 3, H, W); same shape out, float32.

        After `network.bands.widen` further bands follow R, G, B.
        """
        image = image.float()
        if self.order == "BGR":
            image = torch.cat((image[:, :3].flip(1), image[:, 3:]), dim=1)
        return (image - self.mean) / self.std

    def mean_colour(self) -> tuple[int, ...]:
        """R, G, B (and further bands), 0..255, that become about 0: what to pad images with."""
        colour = self.mean.flatten().round().int().tolist()
        return tuple(colour[2::-1] + colour[3:] if self.order == "BGR" else colour)
