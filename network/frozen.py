"""Trunks whose batch normalisation keeps the statistics of the loaded weights."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class FrozenNorm(nn.Module):
    """Base of trunks: unless `norm` is true, batch normalisation stays in evaluation mode.

    The statistics of a few images are too noisy to normalise by.
    """

    norm = False
    """Whether batch normalisation learns."""

    def train(self, mode: bool = True) -> "FrozenNorm":
        """Set the mode; frozen batch normalisation stays in evaluation mode."""
        super().train(mode)
        if not self.norm:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
