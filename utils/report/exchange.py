"""Annotation formats with a file for each image: YOLO-seg labels and labelme JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from base.file import new_folder
from utils.report.outline import Region, polygons

Polygons = list[tuple[Region, list]]
"""Regions of an image and their outlines, arrays (n, 2) of x and y in pixels."""


def yolo_text(classes: tuple[str, ...], name: str, size: tuple[int, int], found: Polygons) -> str:
    """Labels of YOLO-seg: a line for each polygon, the class counted from 0 without background.

    Corners are x and y as shares of the image's width and height.
    """
    lines = []
    for region, outlines in found:
        for path in outlines:
            corners = " ".join(f"{value:.6f}" for value in (path / size[::-1]).ravel())
            lines.append(f"{region.index - 1} {corners}\n")
    return "".join(lines)


def labelme_text(
    classes: tuple[str, ...], name: str, size: tuple[int, int], found: Polygons
) -> str:
    """JSON of labelme; polygons of one region have one group_id."""
    shapes: list[dict[str, Any]] = [
        {
            "label": classes[region.index],
            "points": path.tolist(),
            "group_id": number,
            "shape_type": "polygon",
            "flags": {},
        }
        for number, (region, outlines) in enumerate(found, 1)
        for path in outlines
    ]
    facts: dict[str, Any] = {"version": "5.0.1", "flags": {}, "shapes": shapes, "imagePath": name}
    facts |= {"imageData": None, "imageHeight": size[0], "imageWidth": size[1]}
    return json.dumps(facts, indent=1) + "\n"


FOLDERS: dict[str, tuple[str, Callable[..., str]]] = {
    "yolo": ("labels/{}.txt", yolo_text),
    "labelme": ("{}.json", labelme_text),
}
"""Where the file of an image lies in the folder, and what is in it."""


def write_folder(
    out: Path, form: str, classes: tuple[str, ...], pictures: Iterable, tolerance: float
) -> None:
    """Write a folder of annotations, whole or not at all.

    Args:
        form: a key of `FOLDERS`.
        classes: class names, background first.
        pictures: `annotate.Picture`s.
        tolerance: pixels that a polygon may leave the mask's edge.
    """
    pattern, text = FOLDERS[form]
    with new_folder(out) as folder:
        for picture in pictures:
            found = [(region, polygons(region, tolerance)) for region in picture.regions]
            path = folder / pattern.format(Path(picture.name).stem)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text(classes, picture.name, picture.size, found), encoding="utf-8")
        if form == "yolo":
            rows = [f"  {number}: {json.dumps(name)}" for number, name in enumerate(classes[1:])]
            head = "path: .\ntrain: images\nval: images\nnames:\n"
            (folder / "data.yaml").write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
