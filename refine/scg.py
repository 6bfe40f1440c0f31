"""Self-correlation maps (SCG): activation maps spread to cells with similar features."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from base.tensor import resize

TINY = 1e-10
"""Prevents division by zero."""


def self_correlation(feature: Tensor, first: float = 0.5, second: float = 0.1) -> Tensor:
    """Correlation of the cells of a feature map, direct or through a third cell (second order).

    Args:
        feature: any real numbers, (N, D, h, w).
        first: cosines below this count as 0.
        second: second-order correlations below this share of 1 / (h w) count as 0.

    Returns:
        Correlation >= 0 of all pairs, (N, h w, h w), each column summing to 1 (or 0).

    Source: Pan et al., CVPR 2021 (SPA), high-order self-correlation, with the thresholds of the
    released RecurSeed code. One iteration of the second order.
    """
    unit = normalize(feature.flatten(2), dim=1, eps=TINY)
    cosine = torch.bmm(unit.transpose(1, 2), unit).clamp_min(0)
    cosine = torch.where(cosine < first, 0, cosine)
    direct = share(cosine)
    cosine.diagonal(dim1=1, dim2=2).zero_()
    step = share(cosine)
    over = share(torch.bmm(step, step))
    over = torch.where(over < second / cosine.shape[1], 0, over)
    return share(torch.maximum(direct, over))


def self_correlation_map(
    cam: Tensor,
    features: Sequence[Tensor],
    size: Sequence[int],
    foreground: float = 0.3,
    background: float = 0.05,
    first: float = 0.5,
    second: float = 0.1,
) -> Tensor:
    """Refine class activation maps by the correlations inside several feature maps.

    The result is the correlation with the sure foreground of a class minus that with its sure
    background.

    Args:
        cam: activation maps, at most 1 in each map, (N, K, h, w).
        features: feature maps, each (N, D, h', w'); brought to `size`, as the maps are.
        size: (height, width) of the grid; memory grows with the square of its area.
        foreground: cells of at least this value are sure foreground.
        background: cells of at most this value are sure background.
        first, second: as of `self_correlation`.

    Returns:
        Maps in [0, 1], (N, K, *size); zero where a class has no sure foreground. Without sure
        background nothing is subtracted.

    Source: Pan et al., CVPR 2021 (SPA), SCG; released RecurSeed code.
    """
    cam = resize(cam, size).flatten(2)
    total = sum(self_correlation(resize(feature, size), first, second) for feature in features)
    # Column i, stretched to [0, 1], is the map of correlations with cell i.
    picture = stretch(total, dim=1)
    sure = (cam >= foreground).to(picture.dtype)
    absent = (cam <= background).to(picture.dtype)
    parts = [stretch(torch.bmm(seed, picture.transpose(1, 2)), dim=2) for seed in (sure, absent)]
    # The map of an empty set is 0.
    return stretch((parts[0] - parts[1]).clamp_min(0), dim=2).unflatten(2, tuple(size))


def share(matrix: Tensor) -> Tensor:
    """Divide each column of (N, n, n), all >= 0, by its sum."""
    return matrix / matrix.sum(dim=1, keepdim=True).clamp_min(TINY)


def stretch(value: Tensor, dim: int) -> Tensor:
    """Rescale values linearly to [0, 1] along a dimension; constant values become 0."""
    low, high = value.amin(dim, keepdim=True), value.amax(dim, keepdim=True)
    return (value - low) / (high - low).clamp_min(TINY)
