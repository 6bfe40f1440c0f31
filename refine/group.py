"""Groups of cells that look alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2, vq

SAMPLE = 20_000
"""Cells that the centres are computed from; all cells are assigned."""


def group_cells(feature: NDArray, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Group cells by the direction of their features, with k-means.

    Args:
        feature: (n, d), one row a cell; any float.
        count: number of groups, 1 to 255; fewer come out where fewer cells differ.
        seed: of the sample and of the first centres.

    Returns:
        Group of each cell, (n,), numbered from 0, the largest first.
    """
    feature = feature.astype(np.float32)
    feature /= np.linalg.norm(feature, axis=1, keepdims=True).clip(1e-6)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(feature))[:SAMPLE])
    count = min(count, len(np.unique(feature[chosen], axis=0)))
    if count < 2:
        return np.zeros(len(feature), np.uint8)
    centres, _ = kmeans2(feature[chosen], count, minit="++", seed=rng, missing="warn")
    group, _ = vq(feature, centres)
    order = np.argsort(-np.bincount(group, minlength=count), kind="stable")
    return np.argsort(order)[group].astype(np.uint8)
