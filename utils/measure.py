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


@dataclass(frozen=True)
class Predictions:
    """Prediction files of one folder, and how to turn each into class indices.

    folder: as the user gave it.
    kind: "label" (palette PNG) or "score" (.npz).
    files: file of each image id.
    background: whether the scores have a background channel, so that argmax decides; one that
        is there without this is left out.
    tags: class indices that may occur in each image, beside background; None = all.
    """

    folder: Path
    kind: Kind
    files: dict[str, Path]
    background: bool
    tags: Mapping[str, Iterable[int]] | None = None

    def score(self, image_id: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores (k, H, W) in 0..255 at the image's size, and their class indices (k,)."""
        stored = read_score(self.files[image_id])
        score, keys = stored.score, stored.keys
        kept = np.ones(len(keys), bool) if self.background else keys > 0
        if self.tags is not None:
            kept &= np.isin(keys, [0, *self.tags[image_id]])
        score, keys = score[kept], keys[kept]
        return upsample(score, stored.size), keys

    def label(self, image_id: str, threshold: float = 0.0) -> NDArray[np.uint8]:
        """Class indices of one image, (H, W).

        `threshold`: constant background score in [0, 1]; used only for scores without one.
        """
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
    """Result of `measure`.

    ids: measured images, (N,). matrix: pixel counts (C, C), rows are true classes.
    image_iou: IoU of each class in each image, (N, C), NaN = absent from it.
    thresholds, curve: constant background scores tried and their mIoU in [0, 1]; empty if none.
    threshold: the best of them; all the rest of this object is at that threshold.
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


def read_scores(
    predictions: Predictions, image_id: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
    """Scores of an image in 0..255 (k, H, W) and their class indices (k,); None without a file.

    The scores may lie beside labels, in FOLDER/score.
    """
    if predictions.kind == "score":
        return predictions.score(image_id)
    path = output_path(predictions.folder, "score", image_id)
    if not path.is_file():
        return None
    stored = read_score(path)
    return upsample(stored.score, stored.size), stored.keys


def choose_ids(
    spec: Spec, split: str, predictions: Predictions, partial: bool, skip: bool = False
) -> list[str]:
    """Ids to evaluate, in the order of the list.

    Args:
        partial: permit images without a prediction and predictions outside the split.
        skip: leave out images without a true mask.

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
    """Ids with a prediction, in the order of the list; arguments as of `choose_ids`."""
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
        raise UserError(
            f"--threshold {start} {stop} {step}: needs 0 <= from <= to <= 1 and a step above 0"
        )
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
    """Compare every prediction with its true mask.

    Args:
        ids: images to evaluate, each with a prediction and a mask.
        tried: constant background scores in [0, 1], rising; used for scores without background.
        workers: threads; decoding and counting run outside of Python's lock.

    Raises:
        UserError: a file is broken, mis-sized or holds a class that the data set has not.
    """
    sweeping = predictions.kind == "score" and not predictions.background
    level = np.array(tried if sweeping else [0.0]) * 255

    def count(image_id: str) -> NDArray[np.int64]:
        truth = read_mask(spec.mask_path(image_id))
        try:
            if sweeping:
                score, keys = predictions.score(image_id)
                return metric.sweep(truth, score, keys, level, spec.num_classes)
            label = predictions.label(image_id)
            return metric.confusion(truth, label, spec.num_classes)[None]
        except UserError:
            raise
        except ValueError as error:
            raise UserError(
                f"{predictions.files[image_id]} against {spec.mask_path(image_id)}: {error}"
            ) from error

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
