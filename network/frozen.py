"""Batch normalisation that keeps the statistics of its weights."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class FrozenNorm(nn.Module):
    """Base of trunks: unless `norm` is true, batch normalisation stays in evaluation mode.

    Batches of a few images are too small to measure statistics.
    """

    norm = False
    """Whether batch normalisation learns."""

    def train(self, mode: bool = True) -> "FrozenNorm":
        """Set the mode; frozen statistics stay frozen."""
        super().train(mode)
        if not self.norm:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
