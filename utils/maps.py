"""What follows a network: scores refined by the CRF, and the files of an image."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

import densecrf
from base.contract import Stage
from base.file import write_text
from base.tile import Size
from datalist.georeference import write_georeferenced
from datalist.image import Rows, read_mask, write_mask
from refine import refine_scores
from utils.cover import cover_of, original_name
from utils.flags import Kind, Predict
from utils.output import output_path, upsample, write_overlay, write_score


def path_of(predict: Predict, kind: Kind, image_id: str) -> Path:
    """File of one image."""
    assert predict.out is not None, "test.py fills in the folder"
    return output_path(predict.out, kind, image_id)


def write_maps(
    stage: Stage, predict: Predict, sample: dict, score: np.ndarray, keys: np.ndarray
) -> str:
    """Refine the scores (k, h, w) of one image, of the classes `keys`, and write its files."""
    image = sample["image"][:3].permute(1, 2, 0).contiguous().numpy()
    wanted = {"label", "overlay", "cover"} & set(predict.save)
    if predict.crf or wanted:
        score = upsample(score, image.shape[:2])
    if predict.crf and len(keys) > 1:
        least = stage.recipe.prediction.test_crf_least
        score = refine_scores(score, image, crf_preset(stage, image.shape[:2]), least)
    size = tuple(sample["size"].tolist())
    if not wanted:
        write_score(path_of(predict, "score", sample["id"]), score, keys, size)
        return ""
    shown = most_probable(score, keys)
    label = resize_label(shown, size)
    confidence = float(score.max(0).mean()) if "cover" in predict.save else 0.0
    return write_files(stage, predict, sample, Shown(image, shown, score, keys, confidence), label)


@dataclass
class Shown:
    """An image and what was predicted, at the size that scores and overlays have.

    Args:
        image: RGB uint8 (h, w, 3).
        label: class indices, uint8 (h, w).
        score: in [0, 1], or uint8 0..255, (k, h, w).
        keys: class of each channel, rising, (k,).
        confidence: mean score of each pixel's class.
    """

    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    keys: np.ndarray
    confidence: float


def write_files(stage: Stage, predict: Predict, sample: dict, shown: Shown, label: Rows) -> str:
    """Write what was computed of an image; `label` has the size of the file's image.

    Where the image has a georeference, the label gets it too, as NAME.tif beside the PNG; the
    sentence that is returned tells where it is not kept.
    """
    name = sample["id"]
    if "score" in predict.save:
        size = label.shape[0], label.shape[1]
        write_score(path_of(predict, "score", name), shown.score, shown.keys, size)
    if "overlay" in predict.save:
        truth = None
        if not predict.image and (path := stage.spec.mask_path(name)).is_file():
            truth = resize_label(read_mask(path), shown.label.shape)
        path = path_of(predict, "overlay", name)
        write_overlay(path, shown.image, shown.label, truth, stage.spec.classes)
    if "cover" in predict.save:
        source, classes = original_name(stage.spec, name, sample["file"]), stage.spec.classes
        numbers = shown.confidence, sample["difference"]
        cover = cover_of(label, shown.label, classes, source, *numbers)
        write_text(path_of(predict, "cover", name), json.dumps(cover, indent=1) + "\n")
    note = ""
    if "label" in predict.save:
        path = path_of(predict, "label", name)
        note = write_georeferenced(path.parent / f"{name}.tif", label, sample["file"])
        write_mask(path, label)  # last: a label that is there is done
    return note


def crf_preset(stage: Stage, size: Size) -> densecrf.Preset:
    """The recipe's CRF at test for an image of that height and width."""
    prediction = stage.recipe.prediction
    return densecrf.preset(prediction.test_crf, scale=prediction.crf_scale(size))


def resize_label(label: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Class indices (H, W) at another (height, width), each taken from the nearest pixel."""
    if label.shape == size:
        return label
    return cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST)


def most_probable(score: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Class of the highest score (k, H, W) at each pixel, uint8; of two as high, the lower one."""
    channel = cv2.reduceArgMax(score.reshape(len(score), -1), 0)  # half the time of NumPy's
    return keys.astype(np.uint8)[channel].reshape(score.shape[1:])
