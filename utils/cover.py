"""How much of each picture is covered by each class: cover/ID.json, and cover.csv of all.

Each file is written with its picture, so that the table is complete after an interrupted run, and
after runs of several processes.
"""

import csv
import io
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from base import UserError
from base.file import replacing
from datalist.image import STRIP, Rows
from datalist.prepare.names import NAMES_FILE, read_names
from datalist.spec import Spec

TABLE = "cover.csv"
LAST = ("confidence", "difference", "width", "height")
"""Last columns of the table."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Cells that begin so are formulas for a spreadsheet."""
names_of = lru_cache(maxsize=4)(read_names)  # once for all images
Cover = dict[str, Any]
"""`name` of the picture's file; `width`, `height`; by name of class `percent` of the pixels and
`parts`, the number of connected parts; `confidence`, mean score of each pixel's class in [0, 1];
`difference`, share of the pixels whose class is another in the mirror image's prediction."""


def cover_of(
    label: Rows,
    shown: NDArray[np.uint8],
    classes: Sequence[str],
    name: str,
    confidence: float,
    difference: float,
) -> Cover:
    """Numbers of one prediction, of class indices at the size of the picture.

    Parts (8 neighbours) are counted in `shown`, which is the same, or smaller.
    """
    height, width = label.shape[:2]
    count = np.zeros(256, np.int64)
    rows = max(1, STRIP // width)
    for top in range(0, height, rows):
        count += np.bincount(label[top : top + rows].ravel(), minlength=256)
    parts = {}
    for index, class_name in enumerate(classes[1:], 1):
        mask = (shown == index).view(np.uint8)
        parts[class_name] = cv2.connectedComponents(mask, connectivity=8)[0] - 1
    percent = 100 * count[: len(classes)] / (height * width)
    return {
        "name": name,
        "width": width,
        "height": height,
        "percent": dict(zip(classes, percent.round(4).tolist())),
        "parts": parts,
        "confidence": round(confidence, 4),
        "difference": round(difference, 4),
    }


def original_name(spec: Spec, image_id: str, path: Path) -> str:
    """Name that the file of an image had before it came into its data set."""
    if path.parent != spec.root / spec.image[0]:
        return path.name  # no image of the data set
    return names_of(spec.root / NAMES_FILE).get(image_id, path.name)


def read_covers(folder: Path) -> dict[str, Cover]:
    """Numbers of all pictures of a folder of predictions, by id.

    Raises:
        UserError: a damaged file.
    """
    covers = {}
    for path in sorted((folder / "cover").glob("*.json")):
        try:
            cover = json.loads(path.read_text(encoding="utf-8"))
            row(path.stem, cover, ())
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise UserError(f"{path} is damaged: remove it, and run test.py again") from None
        covers[path.stem] = cover
    return covers


def class_names(covers: dict[str, Cover]) -> list[str]:
    """Classes of all pictures, in their order."""
    return list(dict.fromkeys(name for cover in covers.values() for name in cover["percent"]))


def row(image_id: str, cover: Cover, classes: Sequence[str]) -> list[str | float]:
    """A row of the table; `header` has its columns."""
    percent, parts = cover["percent"], cover["parts"]
    shares = [percent.get(name, 0) for name in classes]
    counts = [parts.get(name, 0) for name in classes[1:]]
    return [cover["name"], image_id, *shares, *counts, *(cover[key] for key in LAST)]


def header(classes: Sequence[str]) -> list[str]:
    """Columns of the table."""
    shares, counts = (f"{name} %" for name in classes), (f"{name} parts" for name in classes[1:])
    return ["name", "id", *shares, *counts, *LAST]


def write_table(folder: Path) -> Path | None:
    """Write cover.csv of the files in FOLDER/cover; returns its path, None without files."""
    if not (covers := read_covers(folder)):
        return None
    classes = class_names(covers)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")
    rows: list[Sequence[str | float]] = [header(classes)]
    rows += [row(image_id, cover, classes) for image_id, cover in covers.items()]
    table.writerows(map(plain, cells) for cells in rows)
    path = folder / TABLE
    with replacing(path) as part:
        part.write_bytes(text.getvalue().encode("utf-8-sig"))  # with the mark that Excel needs
    return path


def plain(cell: str | float) -> str | float:
    """A cell that no spreadsheet takes for a formula."""
    return "'" + cell if isinstance(cell, str) and cell.startswith(FORMULA) else cell
