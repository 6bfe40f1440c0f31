"""The page of questions about groups of cells, whose answers a browser saves as answers.csv."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datalist.answer import NONE, GroupFile
from datalist.image import image_size
from datalist.spec import Spec
from utils.report import gallery
from utils.report.frame import class_colours, title_of, write_page

MOST = 5
"""Groups of a class that are asked about (ours)."""
LARGE = 0.05
"""Share of a class's cells from which on a group is asked about (ours)."""
SURE = 0.7
"""Mean of a group's maps from which on it is taken for the object unasked (ours)."""
SHOWN = 8
"""Photographs of a class."""
SIDE = 240
"""Pixels of their longer side."""


def choose(groups: GroupFile, values: Mapping[tuple[str, int], NDArray]) -> dict[int, list[int]]:
    """Groups of each class to ask about, from 0: large ones that the maps are not sure of.

    `values` are the maps in [0, 1] of an image and a class at the cells with a code, (n,). The most
    doubtful group comes first.
    """
    asked = {}
    for index in sorted({index for _, index in groups.codes}):
        code = [c[c != NONE] // 2 for (_, k), c in groups.codes.items() if k == index]
        value = [v for (_, k), v in values.items() if k == index]
        count = np.bincount(np.concatenate(code)).astype(float)
        mean = np.bincount(np.concatenate(code), np.concatenate(value)) / count.clip(1)
        doubt = count * (1 - mean)
        wanted = np.flatnonzero((count >= LARGE * count.sum()) & (mean < SURE))
        asked[index] = sorted(wanted.tolist(), key=lambda group: -doubt[group])[:MOST]
    return asked


def photographs(groups: GroupFile, index: int, asked: Sequence[int]) -> list[str]:
    """Images of a class that show its groups, those asked about first; at most `SHOWN` ids."""
    images = [name for name, k in groups.codes if k == index]
    count = {}
    for name in images:
        code = groups.codes[name, index]
        count[name] = np.bincount(code[code != NONE] // 2, minlength=128)
    chosen: list[str] = []
    while len(chosen) < min(SHOWN, len(images)):
        # The group of which least is shown so far gets the image that shows most of it.
        seen = sum((count[name] for name in chosen), np.zeros(128, int))
        group = min(asked, key=lambda g: seen[g], default=0)
        rest = [name for name in images if name not in chosen]
        chosen.append(max(rest, key=lambda name: count[name][group]))
    return chosen


def runs_of(code: NDArray[np.uint8]) -> list[int]:
    """Codes in runs: code, length, code, length and so on."""
    start = np.flatnonzero(np.diff(code, prepend=-1))
    return np.stack([code[start], np.diff(start, append=len(code))], 1).ravel().tolist()


def write(path: Path, spec: Spec, groups: GroupFile, asked: dict, command: str) -> int:
    """Write the page of questions about groups, from 0, of each class; returns its size in bytes.

    In the command, {} stands for the file of the answers.

    Raises:
        UserError: an image cannot be read.
    """
    photos, classes = {}, []
    for index, numbers in asked.items():
        pictures = []
        for name in photographs(groups, index, numbers):
            code = groups.codes[name, index]
            if name not in photos:
                size = gallery.shrunk_size(*image_size(spec.image_path(name)), SIDE)
                photo = gallery.jpeg_uri(gallery.small_photo(spec, name, size))
                photos[name] = {"size": size, "photo": photo}
            pictures.append({"id": name, "grid": code.shape[::-1], "runs": runs_of(code.ravel())})
        classes.append({"index": index, "groups": [n + 1 for n in numbers], "pictures": pictures})
    colours = class_colours(spec.num_classes)
    data = {
        "maps": groups.checksum, "names": list(spec.classes), "colours": colours,
        "photos": photos, "classes": classes,
    }  # fmt: skip
    title, command = title_of(spec), command.replace("{}", "~/Downloads/answers.csv")
    values = {"title": title, "dataset": title, "split": "train", "command": command}
    return write_page(path, "questions", data, **values)
