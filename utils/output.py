"""The files that test.py leaves for every image: label, score, cue and overlay.

Every file is written under a temporary name and then renamed, so a file that is there is whole,
and a killed run can go on where it stopped (`is_whole`). Nothing here unpickles.
"""

import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from datalist import DataError
from datalist.archive import read_npz, replacing, write_npz
from datalist.spec import IGNORE, safe_id
from datalist.spec import palette as voc_palette

SUFFIX = {"label": ".png", "score": ".npz", "cue": ".npz", "overlay": ".jpg"}


class Score(NamedTuple):
    """Scores of one image, as `write_score` stores them.

    score: uint8 (k, h, w), round(255 * probability or normalised CAM).
    keys: int64 (k,), the class index of each channel, rising; 0 is background.
    size: (height, width) of the image; h and w may be smaller.
    """

    score: NDArray[np.uint8]
    keys: NDArray[np.int64]
    size: tuple[int, int]


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def output_path(folder: str | Path, kind: str, image_id: str) -> Path:
    """Where the `kind` ("label", "score", "cue", "overlay") file of an image stands.

    Raises:
        DataError: the id is not a plain file name, so it could leave the folder.
    """
    return Path(folder) / kind / (safe_id(image_id) + SUFFIX[kind])


def is_whole(path: str | Path) -> bool:
    """Say whether an output file is there from its first byte to its last.

    Looks at both ends of the file only, so that it costs the same for any size.
    """
    path = Path(path)
    try:
        if path.suffix == ".npz":
            return zipfile.is_zipfile(path)
        with open(path, "rb") as file:
            head = file.read(8)
            file.seek(-min(12, os.fstat(file.fileno()).st_size), os.SEEK_END)
            tail = file.read()
    except OSError:
        return False
    if path.suffix == ".png":
        return head == b"\x89PNG\r\n\x1a\n" and tail[4:8] == b"IEND"
    if path.suffix in (".jpg", ".jpeg"):
        return head[:2] == b"\xff\xd8" and tail[-2:] == b"\xff\xd9"
    raise DataError(f"{path} is none of the output files ({', '.join(set(SUFFIX.values()))}).")


def write_label(path: str | Path, label: ArrayLike, palette: ArrayLike) -> None:
    """Write class indices as a palette PNG.

    Args:
        label: class indices in [0, 255], (H, W).
        palette: RGB colour of each index in [0, 255], (n, 3) with n <= 256.

    Raises:
        DataError: the label is not two-dimensional or has values outside [0, 255].
    """
    label = np.asarray(label)
    if label.ndim != 2 or label.size == 0:
        raise DataError(f"A label is (H, W), not {label.shape} ({path}).")
    if label.min() < 0 or label.max() > 255:
        raise DataError(f"A label holds indices from 0 to 255, not {label.max()} ({path}).")
    picture = Image.fromarray(np.ascontiguousarray(label, dtype=np.uint8))
    picture.putpalette(np.asarray(palette, dtype=np.uint8).tobytes())
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


def read_label(path: str | Path) -> NDArray[np.uint8]:
    """Read class indices, uint8 (H, W), from a palette (or 8-bit grey) PNG.

    PIL, for OpenCV turns palette indices into colours.

    Raises:
        DataError: the file is broken, or holds colours instead of indices.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode in ("P", "L"):
                return np.asarray(picture)
            mode = picture.mode
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError, zlib.error, struct.error) as error:
        raise DataError(
            f"{path} is not a whole picture ({error}); delete it and make it again."
        ) from error
    if mode in ("RGB", "RGBA"):
        folder = Path(path).parent
        raise DataError(
            f"{path} holds colours (mode {mode}), not class indices; turn its folder into palette "
            f'PNGs once: python -c "from utils.output import index_colours; '
            f"index_colours('{folder}', '{folder}Index')\""
        )
    raise DataError(f"{path} has mode {mode}; a label is a palette PNG (mode P) of class indices.")


def index_colours(folder: str | Path, target: str | Path, palette: ArrayLike | None = None) -> None:
    """Turn a folder of RGB label pictures into palette PNGs of class indices.

    Args:
        folder: PNGs coloured with exactly the colours of the palette.
        target: folder for the palette PNGs, of the same names.
        palette: colour of each index, (n, 3); the VOC colour map if None.

    Raises:
        DataError: the folder holds no PNG, or a picture has a colour that is not in the palette.
    """
    palette = voc_palette(256) if palette is None else np.asarray(palette, dtype=np.uint8)
    code = (palette.astype(np.int64) << [16, 8, 0]).sum(1)
    order = np.argsort(code, kind="stable")
    paths = sorted(Path(folder).glob("*.png"))
    if not paths:
        raise DataError(f"{folder} holds no PNG.")
    for path in paths:
        with Image.open(path) as picture:
            colour = (np.asarray(picture.convert("RGB"), dtype=np.int64) << [16, 8, 0]).sum(2)
        place = np.searchsorted(code, colour, sorter=order).clip(max=len(code) - 1)
        label = order[place]
        foreign = code[label] != colour
        if foreign.any():
            row, column = np.argwhere(foreign)[0]
            raise DataError(
                f"{path}: the colour #{colour[row, column]:06x} at row {row}, column {column} is "
                "not in the palette."
            )
        write_label(Path(target) / path.name, label, palette)


def write_score(path: str | Path, score: ArrayLike, keys: ArrayLike, size: tuple[int, int]) -> None:
    """Write scores compactly: 8 bits a value, channels that round to zero left out.

    Args:
        score: probabilities or normalised CAMs in [0, 1], (k, h, w).
        keys: class index of each channel, rising, (k,); 0 is background.
        size: (height, width) of the image.

    Raises:
        DataError: shapes disagree, keys do not rise, or a score is NaN or outside [0, 1].
    """
    score, keys = np.asarray(score), np.asarray(keys, dtype=np.int64)
    if score.ndim != 3 or keys.shape != score.shape[:1] or 0 in score.shape[1:]:
        raise DataError(f"Scores are (k, h, w) with k keys, not {score.shape}, {keys.shape}.")
    if (keys < 0).any() or (np.diff(keys) <= 0).any():
        raise DataError(f"Class indices of scores rise from 0, unlike {keys.tolist()} ({path}).")
    if score.size and not (score.min() >= -1e-4 and score.max() <= 1 + 1e-4):  # NaN fails, too
        raise DataError(f"Scores lie in [0, 1], not [{score.min()}, {score.max()}] ({path}).")
    stored = np.rint(score * 255.0).clip(0, 255).astype(np.uint8)
    kept = stored.any((1, 2))
    size = np.asarray(size, dtype=np.int64)
    write_npz(path, {"score": stored[kept], "keys": keys[kept], "size": size})


def read_score(path: str | Path) -> Score:
    """Read what `write_score` wrote; `upsample` brings it to the size of the image.

    Raises:
        DataError: the file is broken, pickled or of another shape.
    """
    found = read_npz(path, {"score": ("u", 3), "keys": ("iu", 1), "size": ("iu", 1)})
    score, keys, size = found["score"], found["keys"].astype(np.int64), found["size"]
    if (
        score.dtype != np.uint8
        or 0 in score.shape[1:]
        or keys.shape != score.shape[:1]
        or size.shape != (2,)
        or (keys < 0).any()
        or (np.diff(keys) <= 0).any()
        or (size < 1).any()
    ):
        raise DataError(
            f"{path} is no score file (score uint8 (k, h, w), rising keys (k,), size (2,)); "
            "write it with test.py."
        )
    return Score(score, keys, (int(size[0]), int(size[1])))


def read_keys(path: str | Path) -> NDArray[np.int64]:
    """Read only the class indices of a score file, (k,).

    Raises:
        DataError: the file is broken or pickled.
    """
    return read_npz(path, {"keys": ("iu", 1)})["keys"].astype(np.int64)


def upsample(score: NDArray, size: tuple[int, int]) -> NDArray[np.float32]:
    """Bring score maps to (height, width) bilinearly; the range stays as it is.

    Args:
        score: (k, h, w).

    Returns:
        float32 (k, height, width).
    """
    height, width = size
    if score.shape[1:] == (height, width):
        return score.astype(np.float32)
    return np.array(
        [
            cv2.resize(channel.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
            for channel in score
        ],
        dtype=np.float32,
    ).reshape(len(score), height, width)


def write_cue(path: str | Path, cue: ArrayLike, grid: tuple[int, int]) -> None:
    """Write the cues of one image.

    Args:
        cue: class, row and column of each cue cell, (3, K).
        grid: (height, width) of the grid of cells.

    Raises:
        DataError: the shape is another, or a cell lies outside the grid.
    """
    cue, grid = np.asarray(cue), np.asarray(grid, dtype=np.int64)
    _check_cue(path, cue, grid)
    write_npz(path, {"cue": cue.astype(np.int16), "grid": grid})


def read_cue(path: str | Path) -> tuple[NDArray[np.int16], tuple[int, int]]:
    """Read the cues of one image: rows class, row, column (3, K), and the grid (height, width).

    Raises:
        DataError: the file is broken, pickled, or a cell lies outside the grid.
    """
    found = read_npz(path, {"cue": ("iu", 2), "grid": ("iu", 1)})
    cue, grid = found["cue"], found["grid"]
    _check_cue(path, cue, grid)
    return cue.astype(np.int16), (int(grid[0]), int(grid[1]))


def _check_cue(path: str | Path, cue: NDArray, grid: NDArray) -> None:
    if cue.ndim != 2 or len(cue) != 3 or grid.shape != (2,) or cue.dtype.kind not in "iu":
        raise DataError(f"{path}: cues are integers (3, K) on a grid (2,), not {cue.shape}.")
    limit = np.array([np.iinfo(np.int16).max + 1, *grid])[:, None]
    if ((cue < 0) | (cue >= limit)).any():
        raise DataError(f"{path}: a cue lies outside its grid of {grid[0]} x {grid[1]} cells.")


def write_overlay(
    path: str | Path,
    image: NDArray[np.uint8],
    label: NDArray,
    palette: ArrayLike,
    truth: NDArray | None = None,
) -> None:
    """Write a strip image | prediction | truth, labels laid over the image half transparent.

    Args:
        image: RGB in [0, 255], (H, W, 3).
        label: predicted class indices, (H, W).
        palette: RGB colour of each index, (n, 3).
        truth: true class indices, (H, W), 255 = ignore; left away if None.
    """
    panels = [image, blend(image, label, palette)]
    if truth is not None:
        panels.append(blend(image, truth, palette))
    gap = np.full((image.shape[0], max(2, image.shape[1] // 100), 3), 255, np.uint8)
    strip = [part for panel in panels for part in (gap, panel)][1:]
    with replacing(path) as temporary:
        Image.fromarray(np.concatenate(strip, 1)).save(temporary, format="JPEG", quality=90)


def blend(
    image: NDArray[np.uint8], label: NDArray, palette: ArrayLike, opacity: float = 0.6
) -> NDArray[np.uint8]:
    """Lay the colours of a label over an image; background (0) stays clear, ignore turns white.

    Args:
        image: RGB in [0, 255], (H, W, 3).
        label: class indices, (H, W).
        palette: RGB colour of each index, (n, 3).
        opacity: weight of the label's colour in [0, 1].

    Returns:
        RGB uint8 (H, W, 3).

    Raises:
        DataError: image and label differ in size.
    """
    if image.shape[:2] != label.shape:
        raise DataError(f"Image {image.shape[:2]} and label {label.shape} differ in size.")
    palette = np.asarray(palette, dtype=np.float32)[:IGNORE]
    table = np.full((IGNORE + 1, 3), 255, np.float32)
    table[: len(palette)] = palette
    weight = np.where(label == 0, 0.0, opacity).astype(np.float32)[..., None]
    mixed = image * (1 - weight) + table[label] * weight
    return np.rint(mixed).astype(np.uint8)
