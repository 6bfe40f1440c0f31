"""Finds things that are too small for a network that sees whole pictures, and proposes tiles."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

import cv2
import numpy as np

from base import IGNORE
from base.recipe import Data

CELL = 8
"""Side of a cell of the scores of the networks for photographs, pixels of the input."""
LEAST = 2
"""Cells on a side below which a thing is hardly learned."""
LARGE = 8
"""Without masks: sides of a picture over those of the input, from which on small things matter."""
STEP = 32
"""Proposed tiles have multiples of this many pixels a side."""

Size = tuple[int, int]


def extents(mask: np.ndarray) -> dict[int, float]:
    """Side of a square as large as the largest connected part of each class of a mask, pixels."""
    sides = {}
    for value in set(np.unique(mask).tolist()) - {0, IGNORE}:
        areas = cv2.connectedComponentsWithStats((mask == value).view(np.uint8))[2]
        sides[value] = math.sqrt(areas[1:, cv2.CC_STAT_AREA].max())
    return sides


def advise(
    images: Iterable[tuple[Size, Mapping[int, float] | None]], classes: Sequence[str]
) -> str:
    """A sentence on things that vanish when pictures become inputs; empty where none do.

    With masks: a class vanishes where its largest part, in the median of its pictures, covers less
    than `LEAST` x `LEAST` cells of the input. Without: pictures with more than `LARGE` times the
    input's sides may have such things. Tiles of the proposed size show them at twice that limit.

    Args:
        images: (height, width) of each, and the `extents` of its mask; None: it has no mask.
    """
    area, limit = Data().area, LEAST * CELL
    images = list(images)
    factors = [math.sqrt(height * width / area) for (height, width), _ in images]
    if not factors or (factor := median(factors)) <= 1:
        return ""
    seen: dict[int, list[tuple[float, float]]] = {}
    for ratio, (_, sides) in zip(factors, images):
        for index, side in (sides or {}).items():
            seen.setdefault(index, []).append((side / ratio, side))
    what = f"the network sees pictures as {area} pixels (--area)"
    if not seen and factor <= LARGE:
        return ""
    if not seen:
        least = limit * factor
        return (
            f"{what}, these at 1/{factor:.0f} of their sides: what covers less than {least:.0f} x "
            f"{least:.0f} pixels is smaller than {LEAST} x {LEAST} cells there and hardly learned. "
            f"If your classes are so small: {_command(least / 2)}"
        )
    sizes = {k: [median(column) for column in zip(*pairs)] for k, pairs in seen.items()}
    small = {k: side for k, (there, side) in sizes.items() if there < limit and k < len(classes)}
    if not small:
        return ""
    names = ", ".join(f"'{classes[k]}' ({side:.0f})" for k, side in sorted(small.items()))
    return (
        f"{what}, where the usual size of {names} pixels a side is less than {LEAST} x {LEAST} "
        f"cells: hardly learned. {_command(min(small.values()))}"
    )


def _command(side: float) -> str:
    """The command that makes tiles in which things of that many pixels a side are seen well."""
    tile = side * math.sqrt(Data().area) / (2 * LEAST * CELL)
    tile = max(STEP, STEP * int(tile / STEP))
    command = f"`python -m datalist.prepare.arrange PICTURES --out NEW --tile {tile}`"
    return f"{command} shows them larger"
