"""Contrast with the surroundings: what belongs to a thing is seen in the pixels, not in the map.

A class activation map says roughly where a class is. Three measures say how much a pixel differs
from what surrounds it; the product of map and contrast follows thin and small things. All numbers
are relative to the image's size and to its own contrast.

Source: ours. Differs from König et al. 2021 (arXiv 2109.00456), who cut the image itself by a
threshold inside the map: three measures, any colours, and a rule that says which one to use.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, uint8

MEASURES = ("median", "local", "mahalanobis")
"""Distance to the image's median colour; to the mean colour of the surroundings; to the colours
where the maps are low."""
SMOOTH, WINDOW = 0.005, 0.4
"""Deviation of the smoothing and side of the surroundings, as shares of the root of the area."""
PEAK, LOW, GROUND = 0.03, 0.30, 0.40
"""Shares of the pixels: where a map is highest, where it is lowest, and where all are lowest."""
SPREAD, STRETCH = 55.0, 6.0
"""How far the colours of a photograph deviate, in grey levels (the median of msrc-objects), for
which the CRF's colour width of 13 was made; by which factor colours are stretched at most."""
TINY = 1e-6


def stretch_colours(image: Tensor, spread: float) -> Tensor:
    """Images of little contrast with more of it, so that a CRF's colour width suits them.

    Args:
        image: RGB, uint8 (N, H, W, 3).
        spread: least deviation of an image's colours, mean over the channels, in grey levels.

    Returns:
        Colours moved away from their mean by one factor for each image; uint8, as the image.
    """
    pixels = image.float()
    mean = pixels.mean((1, 2), keepdim=True)
    deviation = (pixels - mean).square().mean((1, 2), keepdim=True).sqrt().mean(3, keepdim=True)
    factor = (spread / deviation.clamp_min(TINY)).clamp(1, STRETCH)
    return (mean + factor * (pixels - mean)).round().clamp(0, 255).to(uint8)


def measure_contrast(
    image: NDArray[np.uint8], seed: NDArray[np.float32], measure: str
) -> NDArray[np.float32]:
    """How much each pixel differs from its surroundings.

    Args:
        image: RGB, (H, W, 3).
        seed: maps of the image's classes, (k, H, W).
        measure: "median", the distance to the median colour; "local", to the mean of a window;
            "mahalanobis", to a Gaussian of the colours where the highest map is lowest, in its
            deviations. Colours are CIELAB, smoothed.

    Returns:
        At least 0, (H, W); all 0 on an image of one colour.
    """
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    side = float(np.sqrt(image.shape[0] * image.shape[1]))
    lab = cv2.GaussianBlur(lab, (0, 0), max(0.5, SMOOTH * side))
    pixels = lab.reshape(-1, 3)
    if measure == "local":
        window = round(WINDOW * side) | 1
        mean = cv2.blur(lab, (window, window), borderType=cv2.BORDER_REFLECT)
        return np.linalg.norm(lab - mean, axis=2).astype(np.float32)
    if measure == "median":
        return np.linalg.norm(lab - np.median(pixels, axis=0), axis=2).astype(np.float32)
    best = seed.max(0, initial=0).ravel()
    ground = best <= np.quantile(best, GROUND)
    away = (pixels - pixels[ground].mean(0)).astype(np.float64)
    # A ground of one colour has no deviation; one step of CIELAB is the least.
    covariance = away[ground].T @ away[ground] / ground.sum() + np.eye(3)
    squared = np.einsum("pi,ij,pj->p", away, np.linalg.inv(covariance), away)
    return np.sqrt(squared.clip(min=0)).reshape(lab.shape[:2]).astype(np.float32)


def peak_share(contrast: NDArray[np.float32], cam: NDArray[np.float32]) -> float:
    """How many pixels where a map is highest stand out from where it is lowest.

    Args:
        contrast: at least 0, (H, W).
        cam: map of one class, (H, W).

    Returns:
        Share, in [0, 1], of the pixels at the map's peak (its highest 3 %) whose contrast exceeds
        the 99th percentile of the pixels where the map is low (its lowest 30 %).
    """
    low = contrast[cam <= np.quantile(cam, LOW)]
    peak = contrast[cam >= np.quantile(cam, 1 - PEAK)]
    return float((peak > np.quantile(low, 0.99)).mean())


def weigh(cam: NDArray[np.float32], contrasts: Sequence[NDArray[np.float32]]) -> NDArray:
    """A map times contrast, over its maximum.

    Args:
        cam: map of one class, at least 0, (H, W).
        contrasts: (H, W) each; their geometric mean counts, each over its mean where the map is
            low.

    Returns:
        In [0, 1], float32 (H, W); the map itself, over its maximum, where there is no contrast.
    """
    logs = []
    for contrast in contrasts:
        low = contrast[cam <= np.quantile(cam, LOW)].mean()
        logs.append(np.log(contrast / max(float(low), 1e-3) + 1e-3))
    product = cam * np.exp(np.mean(logs, axis=0)) if logs else cam
    # Without any contrast the factor is the same everywhere, and the map remains.
    return (product / max(float(product.max()), TINY)).astype(np.float32)


def split_values(values: NDArray[np.float32]) -> tuple[float, float]:
    """Otsu's threshold between two groups of values, and how well it separates them.

    Args:
        values: in [0, 1], any shape.

    Returns:
        The threshold; the share of the variance that lies between the groups, in [0, 1], 0 where
        all values are alike.

    Source: Otsu, IEEE SMC 1979, equations 12 and 14, on 256 bins up to the largest value.
    """
    top = max(float(values.max(initial=0)), TINY)
    count, edges = np.histogram(values, 256, (0, top))
    centre, total = (edges[1:] + edges[:-1]) / 2, count.sum()
    below, moment = count.cumsum(), (count * centre).cumsum()
    mean = moment[-1] / total
    apart = np.maximum(below * (total - below), 1)
    between = np.where((below > 0) & (below < total), (mean * below - moment) ** 2 / apart, 0)
    variance = (count * (centre - mean) ** 2).sum() / total
    best = int(between.argmax())
    if variance <= 0 or between[best] <= 0:
        return float(centre[best]), 0.0
    return float(centre[best]), float(between[best] / variance)
