"""Regions of a label map, and the polygons around them."""

from dataclasses import dataclass
from functools import reduce

import cv2
import numpy as np
from numpy.typing import NDArray

from base import IGNORE


@dataclass(frozen=True, eq=False)
class Region:
    """Pixels of one class, all or one connected part: a mask in a box at (left, top)."""

    index: int
    left: int
    top: int
    mask: NDArray[np.bool_]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, width and height in pixels."""
        return (self.left, self.top, self.mask.shape[1], self.mask.shape[0])

    def full(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """The region in an image of (height, width), uint8 0 or 1."""
        mask = np.zeros(size, np.uint8)
        height, width = self.mask.shape
        mask[self.top : self.top + height, self.left : self.left + width] = self.mask
        return mask


def regions(label: NDArray, instances: bool, smallest: float = 1) -> tuple[list[Region], int]:
    """Find the regions of a label map (H, W), of all classes but background and ignore.

    With `instances` each connected part (8 neighbours) is a region, otherwise all of a class.
    Parts of fewer than `smallest` pixels are left out, and their number is returned, too.
    """
    kept_regions, left_out = [], 0
    for index in np.unique(label):
        if index in (0, IGNORE):
            continue
        mask = (label == index).view(np.uint8)
        count, part, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        kept = [k for k in range(1, count) if stats[k, cv2.CC_STAT_AREA] >= smallest]
        left_out += count - 1 - len(kept)
        masks = [part == k for k in kept] if instances else [np.isin(part, kept)] * bool(kept)
        for mask in masks:
            left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
            inside = mask[top : top + height, left : left + width]
            kept_regions.append(Region(int(index), left, top, inside))
    return kept_regions, left_out


def polygons(region: Region, tolerance: float = 0.0) -> list[NDArray[np.float64]]:
    """Outlines of a region along the edges of its pixels.

    A hole is reached by a cut of no width from the outline around it, as most tools know no
    holes. `tolerance`: pixels that an outline may leave the edges to have fewer corners; 0: exact.

    Returns:
        For each part an array (n, 2) of x and y in pixels of the image; (0, 0) is the left upper
        corner of the first pixel.
    """
    return [reduce(cut_to, holes, outline) for outline, *holes in rings(region, tolerance)]


def rings(region: Region, tolerance: float = 0.0) -> list[list[NDArray[np.float64]]]:
    """Outlines of a region, as of `polygons`, each followed by those of its holes."""
    # OpenCV runs through the centres of border pixels. Of pixels cut in 2 x 2, each of these
    # lies at one corner of the region's edge.
    twice = region.mask.repeat(2, 0).repeat(2, 1).view(np.uint8)
    contours, tree = cv2.findContours(twice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    corner = np.array([region.left, region.top], float)
    paths = [simplify((contour[:, 0] + 1) // 2, tolerance) + corner for contour in contours]
    parts = {k: [path] for k, path in enumerate(paths) if tree[0, k, 3] < 0}
    for k, path in enumerate(paths):
        if (parent := tree[0, k, 3]) >= 0 and len(path) >= 3:
            parts[parent].append(path)
    return list(parts.values())


def simplify(path: NDArray[np.int32], tolerance: float) -> NDArray[np.int32]:
    """Corners of a closed path of steps, (n, 2), within a tolerance in pixels."""
    path = path[(path != np.roll(path, 1, 0)).any(1)]
    before, after = path - np.roll(path, 1, 0), np.roll(path, -1, 0) - path
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    back = (before * after).sum(1) < 0
    path = path[turns | back]
    if tolerance > 0:
        coarse = cv2.approxPolyDP(path[:, None].astype(np.int32), tolerance, True)[:, 0]
        # Less than a triangle has no inside: small regions keep their corners.
        path = coarse if len(coarse) >= 3 else path
    return path


def cut_to(outline: NDArray, hole: NDArray) -> NDArray:
    """One closed path along an outline and, where they are nearest, to and around a hole."""
    distance = ((outline[:, None].astype(float) - hole) ** 2).sum(2)
    i, j = np.unravel_index(distance.argmin(), distance.shape)
    return np.concatenate([outline[: i + 1], hole[j:], hole[: j + 1], outline[i:]])
