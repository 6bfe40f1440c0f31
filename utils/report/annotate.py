"""Predictions as files of other tools: COCO, CVAT, Label Studio, YOLO, labelme, GeoJSON, PNG.

`python -m utils.report.annotate DIR --format cvat --dataset mydata --out mydata.xml` turns a folder
of label PNGs, as test.py writes them, into a file to import beside the images."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
import tyro
from pycocotools import mask as rle

from base import UserError, entry
from base.file import write_text
from datalist.image import check_mask, read_mask
from datalist.spec import Spec, read_classes, resolve
from utils.report.exchange import FOLDERS, Classes, Picture, write_cutouts, write_folder
from utils.report.frame import class_colours
from utils.report.outline import Region, polygons, regions

Format = Literal["coco", "cvat", "labelstudio", "yolo", "labelme", "geojson", "cutouts"]
Shape = Literal["mask", "polygon"]


@dataclass(frozen=True)
class Arguments:
    """Turn a folder of label PNGs into a file that annotation tools import."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder of ID.png of class indices, or one that has them in label/."""
    format: Format
    """coco: instances json; cvat: "CVAT for images 1.1" XML; labelstudio: tasks json; yolo:
    YOLO-seg labels and data.yaml; labelme, geojson: a file for each image; cutouts: a PNG of each
    object, transparent around it."""
    out: Path
    """File to write; of yolo, labelme, geojson and cutouts a new folder. labelstudio adds its
    labelling configuration beside it, as .xml."""
    dataset: str = ""
    """Where class names and image files come from: voc, coco, scenes or a folder."""
    root: str | None = None
    """Folder of voc, coco or scenes."""
    classes: Path | None = None
    """Instead of a data set: classes.txt; images are taken to be ID.jpg."""
    shape: Shape | None = None
    """mask: exact, run-length encoded; polygon: corners to drag. Default: mask; for labelstudio,
    yolo, labelme and geojson, which know polygons only, polygon."""
    instances: bool = False
    """Each connected part is an object of its own; else all pixels of a class are one."""
    smallest: float = 0.0005
    """Connected parts smaller than this are left out: below 1 a share of the image's area, from 1
    on pixels. 0: none."""
    tolerance: float = 1.0
    """Pixels that a polygon may leave the mask's edge to have fewer corners; 0: exact."""
    prefix: str = "/data/local-files/?d="
    """What labelstudio puts before the name of an image to find it."""


def read_pictures(arguments: Arguments, classes: Classes, spec: Spec | None) -> Iterator[Picture]:
    """Read a folder of label PNGs, one after the other in order of their names."""
    inner = arguments.folder / "label"
    paths = sorted((inner if inner.is_dir() else arguments.folder).glob("*.png"))
    if not paths:
        raise UserError(f"{arguments.folder} holds no label PNGs: make them with test.py")
    for path in paths:
        label = read_mask(path)
        check_mask(label, len(classes), path)
        try:
            name = spec.image_path(path.stem).name if spec else f"{path.stem}.jpg"
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        least = arguments.smallest * (label.size if arguments.smallest < 1 else 1)
        yield Picture(name, label.shape, *regions(label, arguments.instances, least), path)


def to_coco(classes: Classes, pictures: Iterable[Picture], arguments: Arguments) -> str:
    """COCO instances json: categories are numbered as the classes, images from 1."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, picture in enumerate(pictures, 1):
        height, width = picture.size
        images.append({"id": number, "file_name": picture.name, "width": width, "height": height})
        for region in picture.regions:
            if arguments.shape == "polygon":
                outline = polygons(region, arguments.tolerance)
                segmentation: Any = [path.ravel().tolist() for path in outline]
            else:
                packed = rle.encode(np.asfortranarray(region.full(picture.size)))
                segmentation = {"size": [height, width], "counts": packed["counts"].decode()}
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": region.index,
                "segmentation": segmentation, "area": int(region.mask.sum()),
                "bbox": list(region.box), "iscrowd": 0,
            })  # fmt: skip
    categories = [{"id": k, "name": name} for k, name in enumerate(classes) if k]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return json.dumps(content, separators=(",", ":"))


def to_cvat(classes: Classes, pictures: Iterable[Picture], arguments: Arguments) -> str:
    """XML of "CVAT for images 1.1", for a task that holds the images under their names."""
    top = Element("annotations")
    SubElement(top, "version").text = "1.1"
    task = SubElement(SubElement(top, "meta"), "task")
    size = SubElement(task, "size")
    SubElement(task, "mode").text = "annotation"
    labels = SubElement(task, "labels")
    for name, colour in zip(classes[1:], class_colours(len(classes))[1:]):
        label = SubElement(labels, "label")
        SubElement(label, "name").text = name
        SubElement(label, "color").text = colour
    for number, picture in enumerate(pictures):
        height, width = map(str, picture.size)
        facts = {"id": str(number), "name": picture.name, "width": width, "height": height}
        image = SubElement(top, "image", facts)
        for region in picture.regions:
            for tag, shape in cvat_shapes(region, arguments):
                facts = {"label": classes[region.index], "source": "auto", "occluded": "0"}
                SubElement(image, tag, {**facts, **shape, "z_order": "0"})
    size.text = str(len(top.findall("image")))
    indent(top)
    return tostring(top, encoding="unicode", xml_declaration=True) + "\n"


def cvat_shapes(region: Region, arguments: Arguments) -> Iterator[tuple[str, dict[str, str]]]:
    """CVAT's elements of a region: tag and attributes."""
    if arguments.shape == "polygon":
        for path in polygons(region, arguments.tolerance):
            yield "polygon", {"points": ";".join(f"{x:.2f},{y:.2f}" for x, y in path)}
    else:
        box = dict(zip(("left", "top", "width", "height"), map(str, region.box)))
        yield "mask", {"rle": ", ".join(map(str, row_runs(region.mask))), **box}


def row_runs(mask: np.ndarray) -> list[int]:
    """Lengths of the runs of a mask, row by row, first of 0 (maybe none), then of 1, and so on."""
    flat = mask.ravel()
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff([0, *ends, flat.size]).tolist()
    return [0, *runs] if flat[0] else runs


def to_labelstudio(classes: Classes, pictures: Iterable[Picture], arguments: Arguments) -> str:
    """Tasks with predictions for Label Studio; corners are in percent of the image's sides."""
    tasks = []
    for picture in pictures:
        height, width = picture.size
        result = []
        for region in picture.regions:
            for path in polygons(region, arguments.tolerance):
                points = (100 * path / (width, height)).round(4).tolist()
                name = classes[region.index]
                result.append({
                    "id": f"region-{len(result) + 1}", "type": "polygonlabels",
                    "from_name": "label", "to_name": "image",
                    "original_width": width, "original_height": height, "image_rotation": 0,
                    "value": {"points": points, "closed": True, "polygonlabels": [name]},
                })  # fmt: skip
        data = {"image": arguments.prefix + picture.name}
        prediction = {"model_version": "SeedSeg", "result": result}
        tasks.append({"data": data, "predictions": [prediction]})
    return json.dumps(tasks, separators=(",", ":"))


def labelstudio_view(classes: Classes) -> str:
    """Labelling configuration of Label Studio whose names `to_labelstudio` uses."""
    view = Element("View")
    SubElement(view, "Image", name="image", value="$image")
    labels = SubElement(view, "PolygonLabels", name="label", toName="image")
    for name, colour in zip(classes[1:], class_colours(len(classes))[1:]):
        SubElement(labels, "Label", value=name, background=colour)
    indent(view)
    return tostring(view, encoding="unicode") + "\n"


WRITERS = {"coco": to_coco, "cvat": to_cvat, "labelstudio": to_labelstudio}


def main(arguments: Arguments) -> None:
    """Write the file, and say what is in it."""
    form, shape, smallest = arguments.format, arguments.shape, arguments.smallest
    if not smallest >= 0:
        raise UserError("--smallest must be 0 or more")
    if form in ("labelstudio", *FOLDERS) and shape == "mask":
        raise UserError(f"{form} reads polygons: leave --shape mask away")
    if form == "cutouts" and (shape == "polygon" or not arguments.dataset):
        raise UserError("cutouts are masks of images: give --dataset, and no --shape polygon")
    if bool(arguments.dataset) == bool(arguments.classes):
        raise UserError("class names come from --dataset or from --classes: give one of them")
    spec = resolve(arguments.dataset, arguments.root) if arguments.dataset else None
    classes = spec.classes if spec else read_classes(Path(str(arguments.classes)))
    count = Counter[str]()

    def counted() -> Iterator[Picture]:
        for picture in read_pictures(arguments, classes, spec):
            count.update(images=1, regions=len(picture.regions), left_out=picture.left_out)
            yield picture

    if form in FOLDERS:
        write_folder(arguments.out, form, classes, counted(), arguments.tolerance)
    elif spec and form == "cutouts":
        write_cutouts(arguments.out, spec, counted())
    else:
        write_text(arguments.out, WRITERS[form](classes, counted(), arguments))
    print(f"{arguments.out}: {count['regions']} regions in {count['images']} images")
    if count["left_out"]:
        least = f"{smallest:.2%} of the image" if smallest < 1 else f"{smallest:.0f} pixels"
        print(f"{count['left_out']} connected parts below {least} are left out (--smallest)")
    if form == "labelstudio":
        view = arguments.out.with_suffix(".xml")
        write_text(view, labelstudio_view(classes))
        print(f"{view}: labelling configuration for the project's settings")


if __name__ == "__main__":
    with entry():
        main(tyro.cli(Arguments, prog="python -m utils.report.annotate"))
