"""Windows of large pictures: where they lie, and how their scores become one map.

A network sees *windows* of the size that it learned from, which overlap. Their scores are blended
in *blocks*, which overlap as far as a CRF needs surroundings, and whose *cores* do not. This file
needs NumPy alone: export.py writes it beside predict.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
OVERLAP = 9
"""Neighbouring windows share at least a side over this."""
LARGER = 9 / 8
"""Windows are larger than asked for, by about this factor at most, where fewer then suffice."""
UNIT = 16
"""Sides of larger windows are multiples of this, which strided networks halve without a rest."""
BLOCK = 1 << 18
"""Pixels of a block, where a window has fewer. On one of a million pixels a CRF takes
half as long again for each pixel, as its lattice leaves the processor's caches."""
MARGIN = 0.5
"""Surroundings of a block, as a multiple of the CRF's largest width."""
SMALLEST = 16
"""Side of the smallest window, pixels."""


def choose_window(tile: int | str, usual: Size | None, size: Size) -> Size | None:
    """Height and width of the windows that a picture is predicted in; None: it is not tiled.

    They are up to an eighth larger than asked for where fewer cover the picture then.

    Args:
        tile: side of the windows, pixels, for pictures that are larger; "auto": windows of the
            size `usual`, for pictures more than twice as large on a side; "off".
        usual: median (height, width) of the pictures that the network learned from, if known.
        size: (height, width) of the picture.
    """
    if isinstance(tile, int):
        window, factor = (tile, tile), 1
    elif tile == "off" or usual is None:
        return None
    else:
        window, factor = usual, 2
    if all(side <= factor * limit for side, limit in zip(size, window)):
        return None
    return fit(size[0], window[0]), fit(size[1], window[1])


def fit(length: int, side: int) -> int:
    """Side of the windows of a length, at most that of the largest ones: `side` or up to about an
    eighth more, a multiple of UNIT, so that few windows suffice and all are as large as needed."""
    largest = max(side, UNIT * round(side * LARGER / UNIT))
    overlap = largest // OVERLAP
    count = max(1, math.ceil((length - overlap) / (largest - overlap)))
    window = max(side, math.ceil((length + (count - 1) * overlap) / count))
    return min(length, largest, UNIT * math.ceil(window / UNIT))


def window_step(window: Sequence[int], most: int) -> int:
    """Pixels in height and width that become one in windows, as in usual pictures of `most` pixels.

    Windows may be as much larger than these as `fit` makes them.
    """
    return max(1, math.ceil(math.sqrt(math.prod(window) / most) / LARGER))


def starts(length: int, part: int, overlap: int = 0) -> list[int]:
    """First pixels of the fewest parts that cover a length, equally distant but for rounding.

    A part has at most `length` pixels, and more than the `overlap` that neighbours share at least.
    """
    count = math.ceil((length - overlap) / (part - overlap))
    return [round(k * (length - part) / max(1, count - 1)) for k in range(count)]


@dataclass(frozen=True)
class Axis:
    """Windows along the height or width of a picture."""

    length: int
    """Pixels of the picture."""
    window: int
    """Pixels of a window, at most `length`."""

    @cached_property
    def starts(self) -> list[int]:
        """First pixels of the windows, equally distant but for rounding."""
        return starts(self.length, self.window, self.window // OVERLAP)

    def touching(self, part: slice) -> list[int]:
        """Numbers of the windows that have pixels in a part."""
        before = part.start - self.window
        return [k for k, start in enumerate(self.starts) if before < start < part.stop]

    def weights(self, part: slice) -> dict[int, NDArray]:
        """Weights of the windows at the pixels of a part: smooth, 1 in sum, 0 outside a window."""
        pixel = np.arange(part.start, part.stop) + 0.5
        weights = {}
        for k in self.touching(part):
            share = ((pixel - self.starts[k]) / self.window).clip(0, 1)
            weights[k] = np.sin(np.pi * share) ** 2
        total = sum(weights.values())
        return {k: weight / total for k, weight in weights.items()}

    def enlarging(self, part: slice, cells: int) -> dict[int, tuple[slice, NDArray[np.float32]]]:
        """For each window that touches a part: its pixels there, and a matrix (pixels, cells) that
        makes them, weighted, of the values of its `cells`."""
        matrices = {}
        for k, weight in self.weights(part).items():
            first, last = (np.clip(self.starts[k] + side, part.start, part.stop) - part.start
                           for side in (0, self.window))  # fmt: skip
            pixel = np.arange(first, last) + part.start - self.starts[k]
            # Bilinear; pixels and cells are areas, as in `base.tensor.resize`.
            position = ((pixel + 0.5) * cells / self.window - 0.5).clip(0, cells - 1)
            hat = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(cells)))
            matrix = hat * weight[first:last, None]
            matrices[k] = slice(first, last), matrix.astype(np.float32)
        return matrices

    def cores(self, most: int, margin: int, unit: int) -> list[tuple[slice, slice]]:
        """Parts that overlap, of about `most` pixels or fewer, and their cores, which do not.

        A part has `margin` pixels on both sides of its core; cores begin at multiples of `unit`.
        """
        core = self.length if self.length <= most else max(1, margin, most - 2 * margin)
        # As long as each other, since a last one of a few pixels would cost its margins too.
        core = unit * math.ceil(self.length / math.ceil(self.length / core) / unit)
        edges = [*range(0, self.length, core), self.length]
        return [
            (slice(max(0, first - margin), min(self.length, last + margin)), slice(first, last))
            for first, last in pairwise(edges)
        ]


@dataclass(frozen=True)
class Block:
    """A part of a picture, and in it the core, which no other block has."""

    rows: slice
    columns: slice
    core_rows: slice
    core_columns: slice

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the core, counted from the block's first ones."""
        top, left = self.rows.start, self.columns.start
        return (
            slice(self.core_rows.start - top, self.core_rows.stop - top),
            slice(self.core_columns.start - left, self.core_columns.stop - left),
        )


class Tiling:
    """How a picture of `size` is divided: `rows` and `columns` of windows, and rows of `blocks`.

    A block has `margin` pixels around its core; cores begin at multiples of `unit` pixels.
    """

    def __init__(self, size: Size, window: Size, margin: int = 0, unit: int = 1):
        self.rows, self.columns = Axis(size[0], window[0]), Axis(size[1], window[1])
        pixels = max(BLOCK, window[0] * window[1])
        height = min(size[0], max(window[0], math.isqrt(pixels)))
        columns = self.columns.cores(max(window[1], pixels // height), margin, unit)
        self.blocks = [
            [Block(rows, part, core_rows, core) for part, core in columns]
            for rows, core_rows in self.rows.cores(height, margin, unit)
        ]

    def blend(
        self, scores: Mapping[tuple[int, int], NDArray[np.float32]], block: Block
    ) -> NDArray[np.float32]:
        """Scores (C, height, width) of a block: those of the windows that touch it, by row and
        column, (C, h, w), enlarged, and averaged where windows overlap."""
        count, height, width = next(iter(scores.values())).shape
        size = block.rows.stop - block.rows.start, block.columns.stop - block.columns.start
        blended = np.zeros((count, *size), np.float32)
        columns = self.columns.enlarging(block.columns, width)
        for row, (rows, enlarge) in self.rows.enlarging(block.rows, height).items():
            for column, (part, widen) in columns.items():
                blended[:, rows, part] += enlarge @ scores[row, column] @ widen.T
        return blended
