"""Unary energies and features as pydensecrf.utils makes them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Number

import numpy as np


def unary_from_labels(
    labels, n_labels: int, gt_prob: float, zero_unsure: bool = True
) -> np.ndarray:
    """Energies of a label map that is right with probability `gt_prob`.

    Args:
        labels: integers of any shape. With `zero_unsure`, 0 means "no idea" and label k + 1 stands
            for class k, so that values are 0..n_labels; without, 0..n_labels - 1.
        n_labels: number of classes, "no idea" not counted.
        gt_prob: in (0, 1).

    Returns:
        float32 (n_labels, number of pixels).
    """
    assert 0 < gt_prob < 1, "gt_prob must be in (0, 1)."
    flat = np.asarray(labels).reshape(-1)
    lowest, highest = (0, n_labels) if zero_unsure else (0, n_labels - 1)
    if flat.size and (flat.min() < lowest or flat.max() > highest):
        raise IndexError(
            f"labels reach from {flat.min()} to {flat.max()}, but must lie in {lowest}..{highest}"
        )
    if n_labels < 2:
        raise ZeroDivisionError("unary_from_labels needs two labels or more")
    unary = np.full((n_labels, flat.size), -np.log((1.0 - gt_prob) / (n_labels - 1)), np.float32)
    known = np.flatnonzero(flat != 0) if zero_unsure else np.arange(flat.size)
    unary[flat[known] - int(zero_unsure), known] = -np.log(gt_prob)
    if zero_unsure:
        unary[:, flat == 0] = -np.log(1.0 / n_labels)
    return unary


def unary_from_softmax(sm, scale: float | None = None, clip: float | None = 1e-5) -> np.ndarray:
    """Energies -log p of class probabilities.

    Args:
        sm: probabilities, (classes, ...).
        scale: in (0, 1]: how far to trust them; the rest is spread evenly.
        clip: lower bound of the probabilities; None leaves zeros, whose energy is infinite.

    Returns:
        float32 (classes, number of pixels).
    """
    sm = np.asarray(sm)
    if scale is not None:
        assert 0 < scale <= 1, "`scale` needs to be in (0, 1]"
        sm = scale * sm + (1 - scale) / sm.shape[0]
    if clip is not None:
        sm = np.clip(sm, clip, 1.0)
    return -np.log(sm).reshape(sm.shape[0], -1).astype(np.float32)


def create_pairwise_gaussian(sdims: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """Position features for `DenseCRF.addPairwiseEnergy`.

    Args:
        sdims: width along each axis of the array, (y, x) for an image.
        shape: shape of the array, (h, w) for an image.

    Returns:
        float32 (axes, number of pixels).
    """
    sdims, shape = tuple(sdims), tuple(shape)
    if len(sdims) != len(shape):
        raise ValueError(f"{len(sdims)} widths were given for {len(shape)} axes")
    grid = np.meshgrid(*[np.arange(n, dtype=np.float32) for n in shape], indexing="ij")
    features = [g.reshape(-1) / np.float32(s) for g, s in zip(grid, sdims)]
    return np.ascontiguousarray(np.stack(features).astype(np.float32))


def create_pairwise_bilateral(
    sdims: Sequence[float], schan: float | Sequence[float], img, chdim: int = -1
) -> np.ndarray:
    """Position and colour features for `DenseCRF.addPairwiseEnergy`.

    Args:
        sdims: width along each axis of the image but the channels, (y, x).
        schan: width of channel values, one for all or one each.
        img: array of any number of axes and channels.
        chdim: axis of the channels. Trap: -1 means that there is none, not the last.

    Returns:
        float32 (axes + channels, number of pixels).
    """
    img = np.asarray(img)
    planes = img[None] if chdim == -1 else np.rollaxis(img, chdim)
    schan = (schan,) * len(planes) if isinstance(schan, Number) else tuple(schan)
    if len(schan) == 1:
        schan *= len(planes)
    if len(schan) != len(planes):
        raise ValueError(f"{len(schan)} widths were given for {len(planes)} channels")
    position = create_pairwise_gaussian(sdims, planes.shape[1:])
    colour = [p.reshape(-1).astype(np.float32) / np.float32(s) for p, s in zip(planes, schan)]
    return np.ascontiguousarray(np.concatenate([position, np.stack(colour)]))


def softmax_to_unary(sm, GT_PROB: float = 1) -> np.ndarray:
    """Deprecated name of `unary_from_softmax`."""
    warnings.warn("use unary_from_softmax", DeprecationWarning, stacklevel=2)
    return unary_from_softmax(sm, None if GT_PROB == 1 else GT_PROB)


def compute_unary(labels, M: int, GT_PROB: float = 0.5) -> np.ndarray:
    """Deprecated name of `unary_from_labels`."""
    warnings.warn("use unary_from_labels", DeprecationWarning, stacklevel=2)
    return unary_from_labels(labels, M, GT_PROB)
