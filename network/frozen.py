"""Trunks whose batch normalisation keeps the statistics of the loaded weights."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from network.bands import picture_channels
from network.normalise import Normalise


class FrozenNorm(nn.Module):
    """Base of trunks: unless `norm` is true, batch normalisation stays in evaluation mode.

    The statistics of a few images are too noisy to normalise by.
    """

    normalise: Normalise
    norm = False
    """Whether batch normalisation learns."""

    def inputs(self, image: Tensor) -> Tensor:
        """The picture, normalised, and the channels that follow it (a prompt) as they are."""
        bands = picture_channels(self)
        x = self.normalise(image[:, :bands])
        if image.shape[1] == bands:
            return x
        return torch.cat((x, image[:, bands:].to(x.dtype)), dim=1)

    def train(self, mode: bool = True) -> "FrozenNorm":
        """Set the mode; frozen batch normalisation stays in evaluation mode."""
        super().train(mode)
        if not self.norm:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
