"""Groups of cells or pixels that look alike."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster.vq import kmeans2, vq

SAMPLE = 20_000
"""Cells that the centres are computed from; all cells are assigned."""
WINDOW = 0.1
"""Side of a region's surroundings, as a share of the root of the image's area (ours)."""


def group_cells(feature: NDArray, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Group cells by their features, with k-means.

    Args:
        feature: (n, d), one row a cell; any float.
        count: number of groups, 1 to 255; fewer come out where fewer cells differ.

    Returns:
        Group of each cell, (n,), numbered from 0, the largest first.
    """
    feature = feature.astype(np.float32)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(feature))[:SAMPLE])
    count = min(count, len(np.unique(feature[chosen], axis=0)))
    if count < 2:
        return np.zeros(len(feature), np.uint8)
    centres, _ = kmeans2(feature[chosen], count, minit="++", seed=rng, missing="warn")
    group, _ = vq(feature, centres)
    order = np.argsort(-np.bincount(group, minlength=count), kind="stable")
    return np.argsort(order)[group].astype(np.uint8)


def region_colours(image: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How the connected regions of a mask differ in colour from what surrounds them.

    Args:
        image: RGB, (H, W, 3).
        inside: the mask, (H, W).

    Returns:
        For each pixel of the mask, (n, 3): its region's mean difference, in CIELAB, to the mean
        colour of a window. Dark and light regions differ, as contrast alone does not tell.
    """
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    window = round(WINDOW * float(np.sqrt(inside.size))) | 1
    away = lab - cv2.blur(lab, (window, window), borderType=cv2.BORDER_REFLECT)
    region, count = ndimage.label(inside, np.ones((3, 3)))
    numbers = np.arange(count + 1)
    mean = [ndimage.mean(away[..., channel], region, numbers) for channel in range(3)]
    return np.stack(mean, 1)[region[inside]].astype(np.float32)
