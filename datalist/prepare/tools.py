"""What annotation tools export, as drawings: COCO, Label Studio, CVAT and VIA."""

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from base import UserError
from datalist.annotation import objects_of, read_xml
from datalist.prepare.names import is_picture_path
from datalist.spec import read_text

XML_LIMIT = 1 << 28
"""Bytes of a CVAT export."""
NO_AREA = "objects without an outline (boxes, empty or of two points) are"
"""What is counted of COCO's objects."""


@dataclass
class Drawing:
    """What was drawn on an image.

    Args:
        size: (height, width) in pixels; None where the export does not say.
        shapes: class name and shape, in the order of painting; shapes as `shape_mask` takes them.
        left_out: whether more was drawn that is not a shape, such as boxes.
    """

    name: str
    size: tuple[int, int] | None
    shapes: list[tuple[Any, Any]] = field(default_factory=list)
    left_out: bool = False

    @property
    def is_mask(self) -> bool:
        """Whether it says what each pixel is: it has shapes, or nothing was drawn at all."""
        return bool(self.shapes) or not self.left_out


# -- COCO -----------------------------------------------------------------------------------------


def from_coco(content: dict, path: Path, ignored: Counter[str]) -> list[Drawing]:
    """Drawings of COCO instances."""
    names, objects = objects_of(content, path)
    return [
        coco_drawing(image, objects[image["id"]], names, ignored) for image in content["images"]
    ]


def coco_drawing(
    image: dict, objects: Sequence[dict], labels: Mapping[int, Any], ignored: Counter[str]
) -> Drawing:
    """Drawing of one image: larger objects first, so that small ones lie on top."""
    height, width = image.get("height"), image.get("width")
    size = None
    if height and width:
        size = (int(height), int(width))
        if size != (float(height), float(width)) or isinstance(height, str):
            raise ValueError(f"{height!r} x {width!r} pixels")
    pairs = [(item, outline(item.get("segmentation"))) for item in objects]
    drawn = [(item, shape) for item, shape in pairs if shape is not None]
    if left_out := len(drawn) < len(objects):
        ignored[NO_AREA] += len(objects) - len(drawn)
    drawn.sort(key=lambda pair: -area_of(*pair))
    shapes = [(labels[item["category_id"]], shape) for item, shape in drawn]
    return Drawing(image["file_name"], size, shapes, left_out)


def outline(segmentation: Any) -> Any:
    """A shape of COCO's `segmentation`; None for one without an area."""
    if isinstance(segmentation, dict):
        return segmentation
    if not isinstance(segmentation, list) or not segmentation:
        return None
    if all(isinstance(number, int | float) for number in segmentation):
        segmentation = [segmentation]  # one polygon without the list around it
    elif all(isinstance(p, list) and len(p) == 2 for p in segmentation):
        segmentation = [[number for point in segmentation for number in point]]
    polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
    return polygons or None


def area_of(item: dict, shape: Any) -> float:
    """Area of an object in pixels, as the file says or as its outline says."""
    if isinstance(area := item.get("area"), int | float):
        return area
    if isinstance(shape, list):
        corners = (np.asarray(polygon, float).reshape(-1, 2).T for polygon in shape)
        return sum(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2 for x, y in corners)
    if isinstance(runs := shape.get("counts"), list):
        return float(sum(runs[1::2]))
    _, _, width, height = item.get("bbox") or (0, 0, 0, 0)
    return float(width * height)


# -- Label Studio ---------------------------------------------------------------------------------


def from_labelstudio(tasks: list[dict], key: str, ignored: Counter[str]) -> list[Drawing]:
    """Drawings of Label Studio's "JSON" export: the last annotation of each task.

    `key` of the task's data holds the picture; empty: the one that was drawn on. `ignored` counts
    what is left out.

    Raises:
        UserError: another export, or a task of several pictures of which none is named.
    """
    if any(not isinstance(task.get("data"), dict) for task in tasks):
        raise UserError("no task data: export the project as 'JSON', not as 'JSON-MIN'")
    # A file that was made to be imported has predictions alone.
    part = "annotations" if any("annotations" in task for task in tasks) else "predictions"
    rounds = [[r for r in task.get(part, []) if not r.get("was_cancelled")] for task in tasks]
    last = [done[-1]["result"] if done else None for done in rounds]
    names = {item.get("to_name") for results in last for item in results or ()}
    drawings = []
    for task, results in zip(tasks, last):
        pictures = task_pictures(task["data"], key)
        if results is None:
            ignored["tasks without an annotation are"] += 1
            continue
        # Those that nobody drew on in any task were only shown.
        drawn_on = [k for k in pictures if k in names] or list(pictures)[:1]
        if not names & set(pictures) and len(pictures) > 1:
            raise UserError(
                f"a task has several pictures ({', '.join(pictures)}): say with --key which of "
                "them was drawn on"
            )
        pages = {(k, page): Drawing(name, None) for k in drawn_on
                for page, name in enumerate(pictures[k])}  # fmt: skip
        for item in results:
            k = item["to_name"] if item.get("to_name") in drawn_on else drawn_on[0]
            page = item.get("item_index") or 0
            if (k, page) not in pages:
                raise UserError(f"a result lies on page {page} of {len(pictures[k])} pictures")
            if "item_index" not in item and len(pictures[k]) > 1 and item.get("to_name"):
                raise UserError(
                    f"a task has {len(pictures[k])} pictures under '{k}', and a result does not "
                    "say on which it lies (item_index): export it again, or split the task"
                )
            add_result(pages[k, page], item, ignored)
        drawings += pages.values()
    return drawings


def task_pictures(data: Mapping[str, Any], key: str) -> dict[str, list[str]]:
    """Addresses of the pictures of a task, signed ones too, by the key of its data."""
    if key:
        if key not in data:
            raise UserError(f"a task has no '{key}', only {', '.join(map(str, data))}")
        data = {key: data[key]}
    texts: dict[str, list[str]] = {}
    for name, value in data.items():
        values = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        values = [v["url"] if isinstance(v, dict) and "url" in v else v for v in values]
        if values and all(isinstance(v, str) for v in values):
            texts[name] = values
    paths = {name: values for name, values in texts.items() if all(map(is_picture_path, values))}
    pictures = paths or (texts if len(texts) == 1 else {})  # a name without suffix
    if not pictures:
        keys = ", ".join(map(str, data))
        raise UserError(f"a task has no picture under {keys}: say with --key which it is")
    return pictures


def add_result(drawing: Drawing, item: dict, ignored: Counter[str]) -> None:
    """Add a result of Label Studio to the drawing of its picture."""
    value = item.get("value", {})
    height, width = item.get("original_height"), item.get("original_width")
    if value.get("format") == "rle" and value.get("brushlabels"):
        shape: Any = {"brush": value["rle"]}
        label = value["brushlabels"][0]
    elif value.get("polygonlabels") and len(value["points"]) > 2:
        points = np.asarray(value["points"], float) / 100 * (width, height)
        shape, label = [points.ravel().tolist()], value["polygonlabels"][0]
    elif value.get("ellipselabels"):
        x, rx = (value[k] * width / 100 for k in ("x", "radiusX"))
        y, ry = (value[k] * height / 100 for k in ("y", "radiusY"))
        shape, label = ellipse(x, y, rx, ry, value.get("rotation", 0)), value["ellipselabels"][0]
    else:
        drawing.left_out = True
        ignored[f"results of type '{str(item.get('type'))[:30]}' are"] += 1
        return
    drawing.size = (height, width)
    drawing.shapes.append((label, shape))


# -- CVAT -----------------------------------------------------------------------------------------


def read_cvat(path: Path) -> list[Element]:
    """The images in the XML of "CVAT for images 1.1"."""
    root = read_xml(path, XML_LIMIT)
    images = root.findall("image")
    if root.tag != "annotations" or root.find("track") is not None or not images:
        raise UserError(f"{path} is not an XML of 'CVAT for images 1.1': export the task as that")
    return images


def from_cvat(path: Path, ignored: Counter[str]) -> list[Drawing]:
    """Drawings of the XML of CVAT, painted by z order."""
    drawings = []
    for image in read_cvat(path):
        size = (int(image.attrib["height"]), int(image.attrib["width"]))
        drawing = Drawing(image.attrib["name"], size)
        for item in sorted(image, key=lambda item: int(item.get("z_order", 0))):
            points = item.get("points", "").split(";")
            if item.tag == "polygon" and len(points) > 2:
                shape: Any = [[float(x) for pair in points for x in pair.split(",")]]
            elif item.tag == "ellipse":
                facts = (float(item.attrib[key]) for key in ("cx", "cy", "rx", "ry"))
                shape = ellipse(*facts, float(item.get("rotation", 0)))
            elif item.tag == "mask":
                box = {key: int(item.attrib[key]) for key in ("left", "top", "width", "height")}
                shape = {"runs": [int(run) for run in item.attrib["rle"].split(",")], **box}
            else:
                drawing.left_out = True
                ignored[f"elements '{item.tag[:30]}' are"] += 1
                continue
            drawing.shapes.append((item.attrib["label"], shape))
        drawings.append(drawing)
    return drawings


# -- VIA ------------------------------------------------------------------------------------------


def is_via(content: Any) -> bool:
    """Whether a json is of the VGG Image Annotator, version 1 or 2."""
    if not isinstance(content, dict):
        return False
    rows = content.get("_via_img_metadata", content)
    return bool(rows) and all(
        isinstance(row, dict) and "filename" in row and "regions" in row for row in rows.values()
    )


def via_table(path: Path) -> dict[str, dict]:
    """The regions of VIA's CSV export in the form of its json."""
    rows = list(csv.DictReader(read_text(path).splitlines()))
    needed = {"filename", "region_shape_attributes", "region_attributes"}
    if not rows or not needed <= set(rows[0]):
        raise UserError(f"{path} is not a CSV of VIA: masks of other tools come as json or XML")
    files: dict[str, dict] = {}
    for row in rows:
        file = files.setdefault(row["filename"], {"filename": row["filename"], "regions": []})
        shape = json.loads(row["region_shape_attributes"])
        if shape:
            labels = json.loads(row["region_attributes"])
            file["regions"].append({"shape_attributes": shape, "region_attributes": labels})
    return files


def from_via(content: dict, key: str, ignored: Counter[str]) -> list[Drawing]:
    """Drawings of the VGG Image Annotator.

    `key` is the attribute of regions that names the class; empty: the only one there is. `ignored`
    counts what is left out.

    Raises:
        UserError: regions have several attributes, and none is named.
    """
    drawings = []
    for file in content.get("_via_img_metadata", content).values():
        regions = file["regions"]
        drawing = Drawing(file["filename"], None)
        for region in regions.values() if isinstance(regions, dict) else regions:
            shape = via_shape(region["shape_attributes"])
            if shape is not None:
                drawing.shapes.append((via_label(region["region_attributes"], key), shape))
            else:
                drawing.left_out = True
                ignored[f"regions '{str(region['shape_attributes']['name'])[:30]}' are"] += 1
        drawings.append(drawing)
    return drawings


def via_shape(shape: dict) -> Any:
    """Polygon of a region; None for a box, and for what has no area."""
    name = shape["name"]
    if name == "polygon" and len(shape["all_points_x"]) > 2:
        points = np.stack([shape["all_points_x"], shape["all_points_y"]], 1)
        return [points.astype(float).ravel().tolist()]
    if name in ("circle", "ellipse"):
        rx, ry = (shape["r"], shape["r"]) if name == "circle" else (shape["rx"], shape["ry"])
        return ellipse(shape["cx"], shape["cy"], rx, ry, np.degrees(shape.get("theta", 0)))
    return None


def via_label(attributes: dict, key: str) -> str:
    """Class of a region: a text, or the box that is ticked."""
    if not key and len(attributes) != 1:
        raise UserError(
            f"regions have {len(attributes)} attributes ({', '.join(map(str, attributes))}): say "
            "with --key which of them names the class"
        )
    if key and key not in attributes:
        raise UserError(f"a region has no attribute '{key}', only {', '.join(attributes)}")
    value = attributes[key] if key else next(iter(attributes.values()))
    ticked = [name for name, on in value.items() if on] if isinstance(value, dict) else [value]
    if len(ticked) != 1 or not isinstance(ticked[0], str) or not ticked[0].strip():
        raise UserError(f"a region has {len(ticked)} classes ({str(ticked)[:60]}): give it one")
    return ticked[0].strip()


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float) -> list[list[float]]:
    """Polygon of 64 corners of an ellipse with centre (x, y), radii and a turn in degrees."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    plain = rx * np.cos(angle) + 1j * ry * np.sin(angle)
    return [(complex(x, y) + np.exp(1j * np.radians(degrees)) * plain).view(float).tolist()]
