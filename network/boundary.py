"""Boundary network (IRN): boundary strength from the features of all stages."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from base.tensor import resize


@dataclass(frozen=True)
class BoundaryHead:
    """The boundary branch and the walk; sources are jiwoon-ahn/irn."""

    hidden: int = 32
    """Channels taken from each stage."""
    frozen: bool = True
    """Leave the trunk's weights as they are; from scratch they must learn."""
    radius: int = 10
    """Pairs nearer than this are learned, cells."""
    walk_radius: int = 5
    """The steps of the walk are shorter than this, cells."""
    walk_power: float = 10.0
    """Exponent of the affinities in the walk."""
    walk_doublings: int = 8
    """The walk takes 2 to the power of this many steps."""


class Boundary(nn.Module):
    """Trunk, a 1 x 1 convolution on each of its stages, and a score of boundaries.

    Source: Ahn et al., CVPR 2019 (IRN), boundary branch; group normalisation in four groups.
    Differs: the features of all stages are resized to the first, whatever the strides.
    """

    def __init__(self, trunk: nn.Module, head: BoundaryHead = BoundaryHead()):
        super().__init__()
        self.trunk, self.frozen, hidden = trunk, head.frozen, head.hidden
        if self.frozen:
            self.trunk.requires_grad_(False)
        count = len(self.trunk.channels)
        self.new = (*(f"take{k}" for k in range(1, count + 1)), "score")
        for name, channels in zip(self.new, self.trunk.channels):
            layers = (nn.Conv2d(channels, hidden, 1, bias=False), nn.GroupNorm(4, hidden))
            self.add_module(name, nn.Sequential(*layers))
        self.score = nn.Conv2d(count * hidden, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Boundary logits (N, 1, h, w) of RGB images 0..255, (N, 3, H, W), at the first
        stage's size."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self.trunk.stages(image)
        size = features[0].shape[-2:]
        taken = [self.get_submodule(name)(x) for name, x in zip(self.new, features)]
        return self.score(torch.cat([torch.relu(resize(x, size)) for x in taken], dim=1))
