"""Score a folder of predictions against the masks of a data set, several images at a time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from base import IGNORE, UserError
from datalist.image import read_mask
from datalist.spec import Spec
from utils import metric
from utils.output import SUFFIX, output_path, read_keys, read_score, upsample
from utils.progress import in_threads

Kind = Literal["label", "score"]
ScoresAndKeys = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class Predictions:
    """Prediction files of one folder, and how to turn each into class indices."""

    folder: Path
    kind: Kind
    files: dict[str, Path]
    """File of each image id."""
    background: bool
    """Whether argmax decides with the background channel of scores, or it is left out."""
    tags: Mapping[str, Iterable[int]] | None = None
    """Class indices that may occur in each image, beside background; None = all."""

    def score(self, image_id: str) -> ScoresAndKeys:
        """Scores (k, H, W) in 0..255 at the image's size, and their class indices (k,)."""
        score, keys, size = read_score(self.files[image_id])
        kept = keys >= (0 if self.background else 1)
        if self.tags is not None:
            kept &= np.isin(keys, [0, *self.tags[image_id]])
        return upsample(score[kept], size), keys[kept]

    def label(self, image_id: str, threshold: float = 0.0) -> NDArray[np.uint8]:
        """Class indices of one image, (H, W); scores without background have a constant one."""
        if self.kind == "label":
            label = read_mask(self.files[image_id])
            if self.tags is None:
                return label
            allowed = np.zeros(256, bool)
            allowed[[0, *self.tags[image_id]]] = True
            return np.where(allowed[label], label, 0).astype(np.uint8)
        score, keys = self.score(image_id)
        constant = 0.0 if self.background else threshold * 255
        # First in the row, so that background wins a tie.
        rival = np.full((1, *score.shape[1:]), constant, np.float32)
        index = np.concatenate([rival, score]).argmax(0)
        return np.concatenate([[0], keys])[index].astype(np.uint8)


@dataclass(frozen=True)
class Measured:
    """Result of `measure`, at the best threshold.

    matrix: pixel counts (C, C), rows are true classes.
    image_iou: IoU of each class in each image, (N, C), NaN = absent from it.
    thresholds, curve: constant background scores tried and their mIoU in [0, 1]; empty if none.
    """

    ids: list[str]
    matrix: NDArray[np.int64]
    image_iou: NDArray[np.float32]
    thresholds: list[float]
    curve: list[float]
    threshold: float | None
    scores: metric.Scores

    @property
    def image_miou(self) -> NDArray[np.float32]:
        """Mean over the classes of each image, (N,); NaN for an image that is all ignored."""
        valid = ~np.isnan(self.image_iou)
        total = np.where(valid, self.image_iou, 0).sum(1)
        return np.where(valid.any(1), total / valid.sum(1).clip(min=1), np.nan)


def find(folder: str | Path, kind: Kind | None = None) -> Predictions:
    """Find prediction files: in `folder`/label, `folder`/score, or in `folder` itself.

    Raises:
        UserError: there is no such folder, or nothing to evaluate in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the one that test.py wrote into")
    kinds: list[Kind] = [kind] if kind else ["label", "score"]
    for chosen in kinds:
        for parent in (folder / chosen, folder):
            files = {p.stem: p for p in sorted(parent.glob("[!.]*" + SUFFIX[chosen]))}
            if files:
                background = chosen == "score" and any(0 in read_keys(p) for p in files.values())
                return Predictions(folder, chosen, files, background)
    wanted = " or ".join(f"{k}/*{SUFFIX[k]}" for k in kinds)
    raise UserError(f"{folder} holds no predictions ({wanted}); run test.py first")


def read_scores(predictions: Predictions, image_id: str) -> ScoresAndKeys | None:
    """Scores of an image as of `Predictions`, or from FOLDER/score beside labels; else None."""
    if predictions.kind == "score":
        return predictions.score(image_id)
    path = output_path(predictions.folder, "score", image_id)
    if not path.is_file():
        return None
    score, keys, size = read_score(path)
    return upsample(score, size), keys


def choose_ids(
    spec: Spec, split: str, predictions: Predictions, partial: bool, skip: bool = False
) -> list[str]:
    """Ids to evaluate, in the order of the list; `skip` leaves those without a true mask out.

    Raises:
        UserError: a prediction is missing or extra, or a true mask is missing (with `skip`, all).
    """
    present = predicted_ids(spec, split, predictions, partial)
    lost = {i for i in present if not spec.mask_path(i).is_file()}
    if skip and (rest := [i for i in present if i not in lost]):
        return rest
    _refuse(
        lost,
        f"of {len(present)} images have no true mask in {spec.mask_path(present[0]).parent}",
        f"evaluation needs them, and a split that has them ({', '.join(spec.lists)})",
    )
    return present


def predicted_ids(spec: Spec, split: str, predictions: Predictions, partial: bool) -> list[str]:
    """Ids with a prediction, in the order of the list; `partial`: the lists may differ."""
    ids = spec.ids(split)
    present = [i for i in ids if i in predictions.files]
    if not partial and present:
        _refuse(
            set(ids) - set(present),
            f"of {len(ids)} images in split '{split}' have no prediction in {predictions.folder}",
            "finish test.py, or give --partial to evaluate the rest",
        )
        _refuse(
            set(predictions.files) - set(ids),
            f"of {len(predictions.files)} predictions in {predictions.folder} are not in split "
            f"'{split}'",
            "give the right --split, or --partial to leave them out",
        )
    if not present:
        raise UserError(
            f"{predictions.folder} holds no prediction of split '{split}' of {spec.name}; give "
            "the right --dataset and --split"
        )
    return present


def _refuse(wrong: set[str], what: str, advice: str) -> None:
    if wrong:
        first = ", ".join(sorted(wrong)[:3]) + (", ..." if len(wrong) > 3 else "")
        raise UserError(f"{len(wrong)} {what} ({first}); {advice}")


def thresholds(start: float, stop: float, step: float) -> list[float]:
    """Constant background scores from start to stop (included) in [0, 1]."""
    if not (0 <= start <= stop <= 1 and step > 0):
        given = f"--threshold {start} {stop} {step}"
        raise UserError(f"{given}: needs 0 <= from <= to <= 1 and a step above 0")
    count = int(np.floor((stop - start) / step + 1e-6)) + 1
    return [round(start + step * n, 6) for n in range(count)]


def measure(
    spec: Spec,
    ids: list[str],
    predictions: Predictions,
    tried: list[float],
    workers: int = 2,
    quiet: bool = False,
) -> Measured:
    """Compare the predictions of `ids` with their true masks, in threads.

    Scores without background are swept over the thresholds `tried`, in [0, 1] and rising.

    Raises:
        UserError: a file is broken, mis-sized or holds a class that the data set has not.
    """
    sweeping = predictions.kind == "score" and not predictions.background
    level = np.array(tried if sweeping else [0.0]) * 255

    def count(image_id: str) -> NDArray[np.int64]:
        truth = read_mask(spec.mask_path(image_id))
        try:
            if sweeping:
                return metric.sweep(truth, *predictions.score(image_id), level, spec.num_classes)
            return metric.confusion(truth, predictions.label(image_id), spec.num_classes)[None]
        except ValueError as error:
            pair = f"{predictions.files[image_id]} against {spec.mask_path(image_id)}"
            raise UserError(f"{pair}: {error}") from error

    matrix = np.zeros((len(level), spec.num_classes, spec.num_classes), np.int64)
    image_iou = np.empty((len(ids), len(level), spec.num_classes), np.float16)
    cv2.setNumThreads(1)  # the workers are the threads
    for row, matrices in enumerate(in_threads(count, ids, workers, "evaluate", quiet)):
        matrix += matrices
        image_iou[row] = [metric.image_iou(m) for m in matrices]
    curve = [metric.scores(m).miou for m in matrix] if sweeping else []
    if not matrix.any():
        raise UserError(f"every pixel of the {len(ids)} true masks is {IGNORE} (ignored)")
    best = int(np.argmax(curve)) if sweeping else 0
    return Measured(
        ids=ids,
        matrix=matrix[best],
        image_iou=image_iou[:, best].astype(np.float32),
        thresholds=list(tried) if sweeping else [],
        curve=curve,
        threshold=tried[best] if sweeping else None,
        scores=metric.scores(matrix[best]),
    )
