"""Whether tags are known from the light of whole pictures, so that maps need not show the thing."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from refine.contrast import GROUND

FOLDS, LEAST = 5, 10
"""Parts of the cross-validation; a class needs as many pictures with it, and without (ours)."""
SURE = 0.98
"""Area under the curve from which on light alone tells the tags (ours)."""


def light_of(image: NDArray[np.uint8], seed: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean and deviation of CIELAB, (6,), where an RGB image (H, W, 3) shows none of its classes:
    in the 40 % of the pixels where all of their maps (k, H, W) are lowest."""
    size = (64, 64)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    lab = cv2.cvtColor(small / 255, cv2.COLOR_RGB2Lab).reshape(-1, 3)
    best = cv2.resize(seed.max(0, initial=0), size, interpolation=cv2.INTER_AREA).ravel()
    lab = lab[best <= np.quantile(best, GROUND)]
    return np.concatenate([lab.mean(0), lab.std(0)]).astype(np.float64)


def told_by_light(light: NDArray[np.float64], tagged: NDArray[np.bool_]) -> float:
    """How well a linear classifier tells from the light, (N, 6), which pictures have a tag, (N,).

    Returns:
        Area under the ROC curve of pictures that the classifier did not learn from, in [0, 1];
        0.5 where there are too few pictures with or without the tag.
    """
    if min(tagged.sum(), (~tagged).sum()) < LEAST:
        return 0.5
    score, part = np.empty(len(light)), np.arange(len(light)) % FOLDS
    for fold in range(FOLDS):
        learn = part != fold
        mean, spread = light[learn].mean(0), light[learn].std(0) + 1e-3
        x = np.c_[(light - mean) / spread, np.ones(len(light))]
        y = np.where(tagged, 1.0, -1.0)
        weight = 1 / np.where(tagged, tagged[learn].sum(), (~tagged[learn]).sum()).clip(min=1)
        left = x[learn] * weight[learn, None]
        solved = np.linalg.solve(left.T @ x[learn] + 1e-3 * np.eye(7), left.T @ y[learn])
        score[~learn] = x[~learn] @ solved
    above = score[tagged][:, None] - score[~tagged][None]
    return float((above > 0).mean() + (above == 0).mean() / 2)


def light_warnings(
    light: Sequence[NDArray], tags: Sequence[Sequence[int]], classes: Sequence[str]
) -> list[str]:
    """Sentences on the classes whose tags are known from the light."""
    table = np.array(light, np.float64).reshape(-1, 6)
    told = {
        name: told_by_light(table, np.array([index in row for row in tags], bool))
        for index, name in enumerate(classes[1:], 1)
    }
    return [
        f"tags of {name} are known from the light of the whole picture (in {100 * area:.1f} % of "
        f"pairs): masks may be wrong; add pictures without {name} that are taken the same way"
        for name, area in told.items()
        if area >= SURE
    ]
