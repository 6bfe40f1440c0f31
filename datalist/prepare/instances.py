"""A folder in VOC layout from some categories of a COCO instances json: external masks.

python -m datalist.prepare.instances annotations/instances_train2017.json train2017 data/external
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from base import UserError, entry
from datalist.annotation import image_id, read_instances
from datalist.folder import new_data_folder
from datalist.image import image_size, write_mask
from datalist.prepare.drawn import DAMAGE, paint
from datalist.prepare.tools import coco_drawing
from datalist.spec import plain

CATEGORY = (
    "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "bird", "cat",
    "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe",
)  # fmt: skip
"""The released segmenter's external categories (wjlbnw/SegmentationFromLocalization)."""


@dataclass(frozen=True)
class Arguments:
    """Make a data set of some categories of a COCO instances json."""

    json: Annotated[Path, tyro.conf.Positional]
    """instances_train2017.json, or another of its kind."""
    image: Annotated[Path, tyro.conf.Positional]
    """Folder of its images; the new folder links to it."""
    out: Annotated[Path, tyro.conf.Positional]
    """Folder to make."""
    category: tuple[str, ...] = CATEGORY
    """Categories; images that show none of them are left out."""
    beside: tuple[str, ...] = ("person",)
    """Categories that are painted too; an image with only these is left out. () for none."""


def build(arguments: Arguments) -> int:
    """Make the folder, whole or not at all; returns the number of images.

    Raises:
        UserError: an unusable json, an unknown category, or a folder that is there already.
    """
    source, out = arguments.json, arguments.out
    if not arguments.image.is_dir():
        raise UserError(f"the folder of images {arguments.image} does not exist")
    content = read_instances(source)
    classes = ("background", *arguments.beside, *arguments.category)
    identity = {plain(row["name"]): row["id"] for row in content["categories"]}
    if unknown := [name for name in classes[1:] if plain(name) not in identity]:
        raise UserError(f"{source} has no category '{unknown[0]}'")
    index = {identity[plain(name)]: number for number, name in enumerate(classes) if number}
    kept = {k for k, number in index.items() if number > len(arguments.beside)}
    objects: dict[int, list[dict]] = {}
    for item in content["annotations"]:
        if item["category_id"] in index:
            objects.setdefault(item["image_id"], []).append(item)
    wanted = {item["image_id"] for item in content["annotations"] if item["category_id"] in kept}
    images = [image for image in content["images"] if image["id"] in wanted]
    if not images:
        raise UserError(f"{source} has no image of {', '.join(arguments.category)}")
    with new_data_folder(out, classes, arguments.image) as data:
        for image in tqdm(images, desc="masks", leave=False, disable=None):
            name, where = image_id(image["file_name"]), f"{source}: image '{image['file_name']}'"
            try:
                drawing = coco_drawing(image, objects[image["id"]], index, Counter())
            except DAMAGE as error:
                raise UserError(f"{where} cannot be drawn ({error})") from None
            size = drawing.size or image_size(arguments.image / image["file_name"])
            write_mask(data.mask(name), paint(size, drawing.shapes, where))
            data.tags[name] = sorted({index[item["category_id"]] for item in objects[image["id"]]})
    return len(images)


if __name__ == "__main__":
    with entry():
        arguments = tyro.cli(Arguments, description=Arguments.__doc__)
        print(f"{arguments.out}: {build(arguments)} images")
