"""Affinities of near pixels: how likely two lie in one object, by the boundaries between them."""

from collections.abc import Iterator

import torch
from torch import Tensor


def displacements(radius: int) -> list[tuple[int, int]]:
    """Steps (down, right) to the pixels within a radius, one of each opposite pair.

    Source: Ahn et al., CVPR 2019 (IRN).
    """
    return [
        (down, right)
        for down in range(radius + 1)
        for right in range(-radius, radius + 1)
        if (down > 0 or right > 0) and down * down + right * right <= radius * radius
    ]


def line(down: int, right: int) -> list[tuple[int, int]]:
    """Pixels from (0, 0) to (down, right), ends included."""
    length = max(abs(down), abs(right))
    return [(round(down * t / length), round(right * t / length)) for t in range(length + 1)]


def window(x: Tensor, down: int, right: int, step: tuple[int, int]) -> Tensor:
    """The pixels (..., H, W) at a step from every pixel that has a neighbour at (down, right)."""
    height, width = x.shape[-2:]
    top, left = step[0], step[1] + max(-right, 0)
    rows, columns = height - down, width - abs(right)
    return x[..., top : top + rows, left : left + columns]


def pairs(boundary: Tensor, radius: int) -> Iterator[tuple[int, int, Tensor]]:
    """Affinity of every pixel to those within a radius: 1 less the strongest boundary between.

    Args:
        boundary: boundary strength in [0, 1], (N, H, W).
        radius: pixels.

    Yields:
        (down, right) of the second pixel and affinities (N, H - down, W - |right|) of all pairs
        that far apart, in the order of their upper pixels; each pair once.

    Source: Ahn et al., CVPR 2019 (IRN), semantic affinity along the line.
    """
    height, width = boundary.shape[-2:]
    for down, right in displacements(radius):
        if down < height and abs(right) < width:
            along = [window(boundary, down, right, step) for step in line(down, right)]
            yield down, right, 1 - torch.stack(along).amax(0)


def transition(boundary: Tensor, radius: int = 5, power: float = 10) -> Tensor:
    """Transition matrix of a walk that seldom crosses boundaries.

    Args:
        boundary: boundary strength in [0, 1], (H, W).
        radius: longest step, pixels.
        power: exponent of the affinities.

    Returns:
        Sparse (H W, H W): how much of the pixel of each column goes to the pixel of each row;
        columns sum to 1.

    Source: Ahn et al., CVPR 2019 (IRN).
    """
    height, width = boundary.shape
    index = torch.arange(height * width, device=boundary.device).view(height, width)
    rows, columns, values = [index.flatten()], [index.flatten()], [boundary.new_ones(index.numel())]
    for down, right, affinity in pairs(boundary[None], radius):
        first = window(index, down, right, (0, 0)).flatten()
        second = window(index, down, right, (down, right)).flatten()
        value = affinity[0].flatten() ** power
        rows += [first, second]
        columns += [second, first]
        values += [value, value]
    row, column, value = map(torch.cat, (rows, columns, values))
    sums = torch.zeros_like(boundary).flatten().index_add_(0, column, value)
    place = torch.stack((row, column))
    size = (index.numel(), index.numel())
    matrix = torch.sparse_coo_tensor(place, value / sums[column], size, check_invariants=False)
    return matrix.coalesce()


def random_walk(
    score: Tensor, boundary: Tensor, radius: int = 5, power: float = 10, doublings: int = 8
) -> Tensor:
    """Let scores walk 2^doublings steps between pixels that no boundary parts.

    Args:
        score: any scores >= 0, (K, H, W); what lies on boundaries does not set out.
        boundary: boundary strength in [0, 1], (H, W).
        radius, power: as of `transition`.
        doublings: logarithm of the number of steps.

    Returns:
        Scores, (K, H, W), each map with the sum it set out with.

    Source: Ahn et al., CVPR 2019 (IRN). Differs: sparse products one after the other, not the
    dense power of the matrix.
    """
    matrix = transition(boundary, radius, power)
    walker = (score * (1 - boundary)).flatten(1).T.contiguous()
    for _ in range(2**doublings):
        walker = torch.sparse.mm(matrix, walker)
    return walker.T.reshape(score.shape)
