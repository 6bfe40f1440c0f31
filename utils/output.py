"""The files that test.py leaves for every image: label, score, cue and overlay.

Every file is written under a temporary name and then renamed, so a file that is there is whole,
and a killed run can go on where it stopped (`is_whole`). Nothing here unpickles.
"""

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from base import IGNORE, UserError
from base.file import replacing
from datalist.archive import read_npz, write_npz
from datalist.palette import palette
from datalist.spec import safe_id
from datalist.tiff import LARGEST

SUFFIX = {"label": ".png", "score": ".npz", "cue": ".npz", "overlay": ".jpg", "cover": ".json"}
ENDS = {
    ".png": (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),
    ".jpg": (b"\xff\xd8", b"\xff\xd9"),
    ".json": (b"{", b"}\n"),
}
"""First and last bytes of whole files."""
LEGIBLE = 400
"""Pixels that the longer side of an overlay with a legend has at least."""


class Score(NamedTuple):
    """Scores of one image, as `write_score` stores them."""

    score: NDArray[np.uint8]
    """round(255 * probability or normalised CAM), (k, h, w)."""
    keys: NDArray[np.int64]
    """Class index of each channel, rising, (k,); 0 is background."""
    size: tuple[int, int]
    """(height, width) of the image; h and w may be smaller."""


def output_path(folder: str | Path, kind: str, image_id: str) -> Path:
    """Where the file of a kind (`SUFFIX`) of an image stands.

    Raises:
        UserError: the id is not a plain file name, so it could leave the folder.
    """
    return Path(folder) / kind / (safe_id(image_id) + SUFFIX[kind])


def is_whole(path: str | Path) -> bool:
    """Whether an output file is there from its first byte to its last, by its two ends."""
    path = Path(path)
    try:
        if path.suffix == ".npz":
            return zipfile.is_zipfile(path)
        with open(path, "rb") as file:
            head = file.read(8)
            file.seek(-min(8, os.fstat(file.fileno()).st_size), os.SEEK_END)
            tail = file.read()
    except OSError:
        return False
    first, last = ENDS[path.suffix]
    return head.startswith(first) and tail.endswith(last)


def write_score(path: str | Path, score: ArrayLike, keys: ArrayLike, size: tuple[int, int]) -> None:
    """Write scores compactly: 8 bits a value, channels that round to zero left out.

    Arguments as of `Score`; `score` may also be floats in [0, 1].

    Raises:
        UserError: shapes disagree, keys do not rise, or a score is NaN or outside [0, 1].
    """
    score, keys = np.asarray(score), np.asarray(keys, dtype=np.int64)
    if score.ndim != 3 or keys.shape != score.shape[:1] or 0 in score.shape[1:]:
        raise UserError(f"Scores are (k, h, w) with k keys, not {score.shape}, {keys.shape}")
    if (keys < 0).any() or (np.diff(keys) <= 0).any():
        raise UserError(f"Class indices of scores rise from 0, unlike {keys.tolist()} ({path})")
    byte = score.dtype == np.uint8
    if score.size and not (byte or (score.min() >= -1e-4 and score.max() <= 1 + 1e-4)):  # or NaN
        raise UserError(f"Scores lie in [0, 1], not [{score.min()}, {score.max()}] ({path})")
    stored = score if byte else np.rint(score * 255.0).clip(0, 255).astype(np.uint8)
    kept = stored.any((1, 2))
    stored_size = np.asarray(size, dtype=np.int64)
    write_npz(path, {"score": stored[kept], "keys": keys[kept], "size": stored_size})


def read_score(path: str | Path) -> Score:
    """Read what `write_score` wrote; `upsample` brings it to the size of the image.

    Raises:
        UserError: the file is broken, pickled or of another shape.
    """
    stored = read_npz(path, {"score": ("u", 3), "keys": ("iu", 1), "size": ("iu", 1)})
    score, keys, size = stored["score"], stored["keys"].astype(np.int64), stored["size"]
    if (
        score.dtype != np.uint8
        or 0 in score.shape[1:]
        or keys.shape != score.shape[:1]
        or size.shape != (2,)
        or ((keys < 0) | (keys >= IGNORE)).any()
        or (np.diff(keys) <= 0).any()
        or (size < 1).any()
        or float(size[0]) * float(size[1]) > LARGEST  # no image that is read has more
    ):
        raise UserError(
            f"{path} is not a score file (score uint8 (k, h, w), rising keys (k,), size (2,)); "
            "write it with test.py"
        )
    return Score(score, keys, (int(size[0]), int(size[1])))


def read_keys(path: str | Path) -> NDArray[np.int64]:
    """Read only the class indices of a score file, (k,).

    Raises:
        UserError: the file is broken or pickled.
    """
    return read_npz(path, {"keys": ("iu", 1)})["keys"].astype(np.int64)


def upsample(score: NDArray, size: tuple[int, int]) -> NDArray[np.float32]:
    """Bring score maps (k, h, w) to (height, width) bilinearly, as float32 of the same range."""
    height, width = size
    if score.shape[1:] == (height, width):
        return score.astype(np.float32)
    # Channel by channel: OpenCV has fast code for up to four interleaved ones, and the maps are
    # wanted one after the other anyway.
    enlarged = np.empty((len(score), height, width), np.float32)
    for target, channel in zip(enlarged, score):
        small = channel.astype(np.float32)
        cv2.resize(small, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
    return enlarged


def write_cue(path: str | Path, cue: ArrayLike, grid: tuple[int, int], num_classes: int) -> None:
    """Write the cues of one image: class, row and column of each cell, (3, K), on a grid (h, w).

    Raises:
        UserError: the shape is another, or a cell lies outside the grid.
    """
    cue, shape = np.asarray(cue), np.asarray(grid, dtype=np.int64)
    if cue.ndim != 2 or len(cue) != 3 or shape.shape != (2,) or cue.dtype.kind not in "iu":
        raise UserError(f"{path}: cues are integers (3, K) on a grid (2,), not {cue.shape}")
    limit = np.array([np.iinfo(np.int16).max + 1, *shape])[:, None]
    if ((cue < 0) | (cue >= limit)).any():
        raise UserError(f"{path}: a cue lies outside its grid of {shape[0]} x {shape[1]} cells")
    count = np.asarray(num_classes, dtype=np.int64)
    write_npz(path, {"cue": cue.astype(np.int16), "grid": shape, "num_classes": count})


def write_overlay(
    path: str | Path,
    image: NDArray[np.uint8],
    label: NDArray,
    truth: NDArray | None = None,
    classes: Sequence[str] = (),
) -> None:
    """Write a strip image | prediction | truth, labels laid over the image half transparent.

    With names for a legend of the predicted classes, small images are enlarged by a whole number:
    their text could not be read.
    """
    times = -(-LEGIBLE // max(label.shape))
    if classes and times > 1:
        height, width = (times * side for side in label.shape)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
        label = label.repeat(times, 0).repeat(times, 1)
        truth = None if truth is None else truth.repeat(times, 0).repeat(times, 1)
    panels = [image, blend(image, label)]
    if truth is not None:
        panels.append(blend(image, truth))
    if classes:
        panels.append(legend(label, classes))
    gap = np.full((image.shape[0], max(2, image.shape[1] // 100), 3), 255, np.uint8)
    strip = [part for panel in panels for part in (gap, panel)][1:]
    with replacing(path) as temporary:
        Image.fromarray(np.concatenate(strip, 1)).save(temporary, format="JPEG", quality=90)


def legend(label: NDArray, classes: Sequence[str]) -> NDArray[np.uint8]:
    """Draw the colour and name of each class of a label map, the largest first, as RGB."""
    height = label.shape[0]
    count = np.bincount(label.ravel(), minlength=len(classes))[: len(classes)]
    shown = [index for index in np.argsort(-count, kind="stable") if count[index]]
    line = max(12, min(height // max(len(shown), 1), height // 12))
    font = ImageFont.load_default(size=line * 0.7)
    shares = [100 * count[i] / label.size for i in shown]
    texts = [f"{share:.0f}" if share >= 0.5 else "<1" for share in shares]
    names = [f"{classes[i]}  {text} %" for i, text in zip(shown, texts)]
    width = int(2.2 * line + max(font.getlength(name) for name in names))
    panel = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(panel)
    for row, (index, name) in enumerate(zip(shown, names)):
        top = row * line
        box = (line * 0.3, top + line * 0.15, line * 1.15, top + line * 0.85)
        pen.rectangle(box, fill=tuple(palette(256)[index].tolist()), outline="grey")
        pen.text((line * 1.5, top + line * 0.08), name, fill="black", font=font)
    return np.asarray(panel)


def blend(image: NDArray[np.uint8], label: NDArray, opacity: float = 0.6) -> NDArray[np.uint8]:
    """Lay VOC colours over an RGB image; background (0) stays clear, ignore (255) turns white.

    Raises:
        UserError: image and label differ in size.
    """
    if image.shape[:2] != label.shape:
        raise UserError(f"Image {image.shape[:2]} and label {label.shape} differ in size")
    colour = palette(256).astype(np.float32)
    colour[IGNORE] = 255
    weight = np.where(label == 0, 0.0, opacity).astype(np.float32)[..., None]
    mixed = image * (1 - weight) + colour[label] * weight
    return np.rint(mixed).astype(np.uint8)
