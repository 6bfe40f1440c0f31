"""Affinities of nearby pixels from the boundaries between them, and a random walk along them."""

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import pad


def displacements(radius: int) -> list[tuple[int, int]]:
    """Steps (down, right) to all pixels nearer than a radius; of two opposite steps, only one.

    Source: Ahn et al., CVPR 2019 (IRN), misc/indexing.py; 34 steps for radius 5.
    """
    steps = product(range(radius), range(1 - radius, radius))
    return [(y, x) for y, x in steps if (y > 0 or x > 0) and y * y + x * x < radius * radius]


def path(down: int, right: int) -> list[tuple[int, int]]:
    """Pixels (y, x) whose distance to the line from (0, 0) to (down, right) is below 1.

    They lie in the rectangle that the two ends span; both ends are included.

    Source: IRN, misc/indexing.py.
    """
    rectangle = product(range(down + 1), range(min(right, 0), max(right, 0) + 1))
    squared = down * down + right * right
    return [(y, x) for y, x in rectangle if (down * x - right * y) ** 2 < squared]


def shift(x: Tensor, step: tuple[int, int], radius: int) -> Tensor:
    """The pixels of (..., H, W) at a step from every source pixel.

    Sources are the pixels whose whole neighbourhood lies inside: all rows but the last
    ``radius - 1``, all columns but ``radius - 1`` at each side.
    """
    margin, (down, right) = radius - 1, step
    height, width = max(0, x.shape[-2] - margin), max(0, x.shape[-1] - 2 * margin)
    return x[..., down : down + height, margin + right : margin + right + width]


def pairs(boundary: Tensor, radius: int) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """Affinity of every source pixel to those within a radius: 1 minus the strongest boundary.

    Args:
        boundary: boundary strength in [0, 1], (N, H, W).
        radius: pixels.

    Yields:
        (down, right) of the second pixel, and the affinities of all sources of `shift`,
        (N, H - radius + 1, W - 2 radius + 2); each pair once.

    Source: Ahn et al., CVPR 2019 (IRN), semantic affinity along the path.
    """
    for step in displacements(radius):
        along = torch.stack([shift(boundary, pixel, radius) for pixel in path(*step)])
        # `max` sends the gradient to one pixel of the path, as IRN's max pooling does.
        yield step, 1 - along.max(dim=0).values


def random_walk(
    score: Tensor, boundary: Tensor, radius: int = 5, power: float = 10, doublings: int = 8
) -> Tensor:
    """Average scores 2^doublings times over neighbouring pixels, weighted by affinity.

    Args:
        score: any scores >= 0, (K, H, W); scores on boundaries are reduced before the walk.
        boundary: boundary strength in [0, 1], (H, W).
        radius: pixels; steps of the walk are shorter than this.
        power: exponent of the affinities.
        doublings: base-2 logarithm of the number of steps.

    Returns:
        Scores, (K, H, W), each at most the maximum of its map. IRN then divides all maps of an
        image by their common maximum.

    Source: Ahn et al., CVPR 2019 (IRN), `propagate_to_edge`: scores times (1 - boundary), then
    times the transition matrix, whose columns sum to 1. Differs: one step after the other in
    float64, which is faster than the dense power of the matrix and equal to its rounding.
    """
    # With boundaries as padding every pixel of the image is a source, and no walk leaves it.
    sides = (radius - 1, radius - 1, 0, radius - 1)
    padded = pad(boundary.double(), sides, value=1.0)[None]
    affinities = [(step, affinity**power) for step, affinity in pairs(padded, radius)]

    def spread(x: Tensor) -> Tensor:
        """Sum of each pixel and its neighbours, weighted by the affinities."""
        total = x.clone()
        for step, affinity in affinities:
            shift(total, (0, 0), radius).addcmul_(affinity, shift(x, step, radius))
            shift(total, step, radius).addcmul_(affinity, shift(x, (0, 0), radius))
        return total

    weight = spread(torch.ones_like(padded))
    walker = pad((score * (1 - boundary)).double(), sides)
    for _ in range(2**doublings):
        walker = spread(walker) / weight
    return shift(walker, (0, 0), radius).to(score.dtype)
