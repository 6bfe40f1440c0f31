"""From class indices to mIoU: one confusion matrix, and every number out of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from base import IGNORE


def confusion(truth: NDArray, prediction: NDArray, num_classes: int) -> NDArray[np.int64]:
    """Count pixels by true (rows) and predicted (columns) class, (num_classes, num_classes).

    Class indices of any shape are in [0, num_classes), or 255 = ignore in the truth, where the
    prediction may be anything.

    Raises:
        ValueError: shapes differ, or an index is out of range.
    """
    _check_sizes(prediction.shape, truth.shape)
    # Both indices in one 16-bit number: no mask, no copy, and what is out of range shows itself.
    pair = _byte("the truth", truth, num_classes).astype(np.uint16)
    pair <<= 8
    pair |= _byte("the prediction", prediction, num_classes)
    count = np.bincount(pair.ravel(), minlength=1 << 16).reshape(256, 256)
    count[IGNORE] = 0
    _check_range("the truth", np.flatnonzero(count.any(1)), num_classes)
    _check_range("the prediction", np.flatnonzero(count.any(0)), num_classes)
    return count[:num_classes, :num_classes]


def sweep(
    truth: NDArray, score: NDArray, keys: NDArray, thresholds: NDArray, num_classes: int
) -> NDArray[np.int64]:
    """Confusion matrices (T, num_classes, num_classes) for every constant background score at once.

    A pixel takes its best foreground class where that score is above the threshold, and is
    background elsewhere. Pixels are counted once, by best class and by how many thresholds their
    score exceeds, so that many thresholds cost what one costs.

    Args:
        truth: class indices (H, W), 255 = ignore.
        score, keys: foreground scores (k, H, W), and the class index of each map, (k,).
        thresholds: rising, not negative, in the unit of the scores, (T,).

    Raises:
        ValueError: sizes differ, or an index is out of range.

    Source: Jo et al., RecurSeed and EdgePredictMix, 2022, evaluate.py (constant threshold).
    """
    _check_sizes(score.shape[1:], truth.shape)
    counted = truth != IGNORE
    truth = truth[counted].astype(np.intp)
    _check_range("the truth", truth, num_classes)
    _check_range("the keys", keys, num_classes)
    best = np.zeros(len(truth), np.intp)
    top = np.zeros(len(truth), score.dtype)
    position = np.flatnonzero(counted)
    for key, channel in zip(keys, score.reshape(len(keys), counted.size)):
        channel = channel[position]
        better = channel > top  # not >=: of equal classes the first wins, as in argmax
        best[better] = key
        np.maximum(top, channel, out=top)
    exceeded = np.zeros(len(truth), np.uint16)
    for threshold in thresholds:
        exceeded += top > threshold
    levels = len(thresholds) + 1
    index = (exceeded.astype(np.intp) * num_classes + truth) * num_classes + best
    count = np.bincount(index, minlength=levels * num_classes**2)
    count = count.reshape(levels, num_classes, num_classes)
    foreground = np.cumsum(count[:0:-1], 0)[::-1]  # at t: pixels that exceed more than t
    result = foreground.copy()
    result[:, :, 0] += count.sum((0, 2)) - foreground.sum(2)
    return result


def _byte(what: str, index: NDArray, num_classes: int) -> NDArray[np.uint8]:
    if index.dtype != np.uint8:
        if index.size and (index.min() < 0 or index.max() > IGNORE):
            _check_range(what, index, num_classes)
        index = index.astype(np.uint8)
    return index


def _check_range(what: str, index: NDArray, num_classes: int) -> None:
    if index.size and (index.max() >= num_classes or index.min() < 0):
        wrong = index.max() if index.max() >= num_classes else index.min()
        known = f"the data set's go from 0 to {num_classes - 1}"
        raise ValueError(f"{what} holds the class index {wrong}, but {known}.")


def _check_sizes(prediction: tuple[int, ...], truth: tuple[int, ...]) -> None:
    if prediction != truth:
        own, true = (" x ".join(map(str, shape)) for shape in (prediction, truth))
        raise ValueError(f"the prediction is {own}, the truth {true} (height x width).")


@dataclass(frozen=True)
class Scores:
    """Scores in [0, 1] out of one confusion matrix; per-class arrays are (C,), NaN = undefined.

    iou: NaN for a class absent from truth and prediction, 0 for a class never hit.
    precision: NaN for a class never predicted. recall: NaN for a class not in the truth.
    false_positive, false_negative: pixels as shares of the union; with iou they add up to 1.
    """

    iou: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    false_positive: NDArray[np.float64]
    false_negative: NDArray[np.float64]
    miou: float
    pixel_accuracy: float
    mean_accuracy: float
    frequency_weighted_iou: float


def scores(matrix: NDArray) -> Scores:
    """Compute all scores of a confusion matrix (C, C), rows true, columns predicted.

    Without one counted pixel every score is NaN.

    Source: mIoU as in the VOC challenge (intersection over union of all pixels of the set, then
    the mean over classes); pixel, mean accuracy and frequency-weighted IoU: Long et al., CVPR 2015.
    Differs: a class absent from truth and prediction is left out of the mean.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    hit, true, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    union = true + predicted - hit
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, which is what undefined means here
        iou, recall = hit / union, hit / true
        return Scores(
            iou=iou,
            precision=hit / predicted,
            recall=recall,
            false_positive=(predicted - hit) / union,
            false_negative=(true - hit) / union,
            miou=_mean(iou),
            pixel_accuracy=float(hit.sum() / matrix.sum()),
            mean_accuracy=_mean(recall),
            frequency_weighted_iou=float(np.nansum(true * iou) / matrix.sum()),
        )


def image_iou(matrix: NDArray) -> NDArray[np.float32]:
    """IoU of each class in one image's confusion matrix, (C,), NaN where the class is absent."""
    hit = matrix.diagonal()
    union = matrix.sum(0) + matrix.sum(1) - hit
    return np.where(union > 0, hit / np.maximum(union, 1), np.nan).astype(np.float32)


def _mean(values: NDArray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def as_percent(found: Scores, classes: Sequence[str]) -> dict:
    """Scores as the dictionary of score.json: percent with two decimals, None = undefined."""

    def percent(value: float) -> float | None:
        return None if np.isnan(value) else round(100 * float(value), 2)

    numbers = ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")
    arrays = ("iou", "precision", "recall", "false_positive", "false_negative")
    return {
        **{name: percent(getattr(found, name)) for name in numbers},
        **{name: dict(zip(classes, map(percent, getattr(found, name)))) for name in arrays},
        "absent": [name for name, value in zip(classes, found.iou) if np.isnan(value)],
    }


def table(rows: Sequence[Sequence], heads: Sequence[str], width: int = 80) -> str:
    """Lay out a table for the terminal, with two decimals; None and NaN are a dash."""

    def cell(value: object) -> str:
        if value is None or (isinstance(value, float) and np.isnan(value)):
            return "-"
        return f"{value:.2f}" if isinstance(value, float) else str(value)

    text = [[str(row[0]), *map(cell, row[1:])] for row in rows]
    right = [
        max([len(head), 6, *(len(line[column]) for line in text)])
        for column, head in enumerate(heads[1:], 1)
    ]
    room = max(8, width - sum(right) - 2 * len(right))
    first = min(room, max([len(heads[0]), *(len(line[0]) for line in text)], default=0))

    def join(line: Sequence[str]) -> str:
        name = line[0] if len(line[0]) <= first else line[0][: first - 1] + "~"
        return "  ".join([name.ljust(first), *(c.rjust(w) for c, w in zip(line[1:], right))])

    rule = "-" * (first + sum(right) + 2 * len(right))
    return "\n".join([join(heads), rule, *map(join, text)])
