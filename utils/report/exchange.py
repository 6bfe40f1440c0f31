"""Formats with a file for each image, or each object: YOLO-seg, labelme, GeoJSON, cut-outs."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from base import UserError
from base.file import new_folder
from datalist.georeference import lon_lat
from datalist.image import read_shown
from datalist.prepare.names import make_id
from datalist.spec import Spec
from utils.report.outline import Region, polygons, rings

Classes = tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """An image of (height, width), and the regions of its labels that are not too small."""

    name: str
    size: tuple[int, int]
    regions: list[Region]
    left_out: int
    label: Path


def yolo_text(classes: Classes, picture: Picture, tolerance: float) -> str:
    """Labels of YOLO-seg: a line for each polygon, the class counted from 0 without background.

    Corners are x and y as shares of the image's width and height.
    """
    text = ""
    for region in picture.regions:
        for path in polygons(region, tolerance):
            corners = " ".join(f"{value:.6f}" for value in (path / picture.size[::-1]).ravel())
            text += f"{region.index - 1} {corners}\n"
    return text


def labelme_text(classes: Classes, picture: Picture, tolerance: float) -> str:
    """JSON of labelme; polygons of one region have one group_id."""
    shapes: list[dict[str, Any]] = []
    for number, region in enumerate(picture.regions, 1):
        for path in polygons(region, tolerance):
            shapes.append({
                "label": classes[region.index], "points": path.tolist(), "group_id": number,
                "shape_type": "polygon", "flags": {},
            })  # fmt: skip
    height, width = picture.size
    content = {
        "version": "5.0.1", "flags": {}, "shapes": shapes, "imagePath": picture.name,
        "imageData": None, "imageHeight": height, "imageWidth": width,
    }  # fmt: skip
    return json.dumps(content, indent=1) + "\n"


def geojson_text(classes: Classes, picture: Picture, tolerance: float) -> str:
    """GeoJSON (RFC 7946): a feature for each region, with its class and its number of pixels.

    Coordinates are longitude and latitude where the label has a georeference (`label/NAME.tif`);
    otherwise pixels, x to the right and y down from the left upper corner of the image.
    """
    located = picture.label.with_suffix(".tif")
    convert = lon_lat(located, picture.size) if located.is_file() else None
    convert = convert or (lambda path: path)
    features = []
    for region in picture.regions:
        parts = [
            [closed(convert(path), number == 0) for number, path in enumerate(paths)]
            for paths in rings(region, tolerance)
        ]
        properties = {"class": classes[region.index], "index": region.index}
        properties |= {"image": picture.name, "pixels": int(region.mask.sum())}
        geometry = {"type": "MultiPolygon", "coordinates": parts}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    return json.dumps({"type": "FeatureCollection", "features": features}) + "\n"


def closed(path: np.ndarray, anticlockwise: bool) -> list[list[float]]:
    """A path (n, 2) that ends where it began, in the direction that GeoJSON wants."""
    after = np.roll(path, -1, 0)
    twice_area = (path[:, 0] * after[:, 1] - after[:, 0] * path[:, 1]).sum()
    path = path if (twice_area > 0) == anticlockwise else path[::-1]
    return [*path.tolist(), path[0].tolist()]


FOLDERS: dict[str, tuple[str, Callable[[Classes, Picture, float], str]]] = {
    "yolo": ("labels/{}.txt", yolo_text),
    "labelme": ("{}.json", labelme_text),
    "geojson": ("{}.geojson", geojson_text),
}
"""Where the file of an image lies in the folder, and what is in it."""


def write_folder(
    out: Path, form: str, classes: Classes, pictures: Iterable[Picture], tolerance: float
) -> None:
    """Write a folder of annotations, whole or not at all."""
    pattern, text = FOLDERS[form]
    with new_folder(out) as folder:
        for picture in pictures:
            path = folder / pattern.format(Path(picture.name).stem)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text(classes, picture, tolerance), encoding="utf-8")
        if form == "yolo":
            rows = [f"  {number}: {json.dumps(name)}" for number, name in enumerate(classes[1:])]
            head = "path: .\ntrain: images\nval: images\nnames:\n"
            (folder / "data.yaml").write_text(head + "\n".join(rows) + "\n", encoding="utf-8")


def write_cutouts(out: Path, spec: Spec, pictures: Iterable[Picture]) -> None:
    """Write a folder with NAME_CLASS_NUMBER.png of each region, whole or not at all.

    Each is the part of the image in the region's box; pixels outside of the region are transparent.

    Raises:
        UserError: an image that cannot be read, or has another size than its labels.
    """
    with new_folder(out) as folder:
        for picture in pictures:
            path = spec.image_path(picture.label.stem)
            image = read_shown(path, spec.bands)
            if (size := image.shape[:2]) != picture.size:
                pair = f"{path} and {picture.label}"
                raise UserError(f"{pair} differ in size: {size} and {picture.size}")
            for number, region in enumerate(picture.regions, 1):
                left, top, width, height = region.box
                part = image[top : top + height, left : left + width]
                pixels = np.dstack((part, 255 * region.mask.astype(np.uint8)))
                name = make_id(spec.classes[region.index])
                file = folder / f"{picture.label.stem}_{name}_{number}.png"
                Image.fromarray(pixels, "RGBA").save(file)
