"""Tensor functions that networks, refinement and methods share."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import interpolate


def resize(x: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Resize maps bilinearly.

    Args:
        x: (N, C, h, w).
        size: height and width of the result.
        align_corners: as of `torch.nn.functional.interpolate`.

    Returns:
        (N, C, *size); `x` itself where it has that size.
    """
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return interpolate(x, tuple(size), mode="bilinear", align_corners=align_corners)


def over_peak(maps: Tensor) -> Tensor:
    """Divide the positive part of maps (N, K, h, w) by each map's maximum; values in [0, 1]."""
    maps = maps.clamp_min(0)
    return maps / maps.amax(dim=(2, 3), keepdim=True).clamp_min(1e-5)


def max_norm(maps: Tensor, eps: float = 1e-5) -> Tensor:
    """Stretch the positive part of maps (N, K, h, w) from minimum and maximum to [0, 1).

    Source: `max_norm` of YudeWang/SEAM: relu(x - min - eps) / (max - min + eps), x = relu(map).
    """
    flat = maps.relu().flatten(2)
    # Of equal values one alone gets the gradient, as in the released code.
    low, high = flat.min(2, keepdim=True).values, flat.max(2, keepdim=True).values
    return ((flat - low - eps).relu() / (high - low + eps)).view_as(maps)


def resize_mask(mask: Tensor, size: Sequence[int], mode: str = "nearest") -> Tensor:
    """Resize masks (N, H, W) by taking the first value of a cell, or with the mode
    "nearest-exact" its middle one, as PIL does."""
    return interpolate(mask[:, None].float(), size=tuple(size), mode=mode)[:, 0].long()
