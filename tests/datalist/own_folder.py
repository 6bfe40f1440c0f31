"""A small data set in VOC layout, pictures, and data sets arranged of them."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from datalist.image import write_mask
from datalist.prepare.arrange import Arguments, arrange
from datalist.spec import Spec, resolve

CLASSES = ("background", "cat", "traffic light", "dog")
TAGS = {"a": (1,), "b": (1, 2), "c": (3,), "d": (), "e": (2, 3), "f": (1,)}
SIZES = {"a": (20, 30), "b": (31, 17), "c": (24, 24), "d": (9, 40), "e": (24, 24), "f": (1, 1)}


def make_folder(root: Path) -> Path:
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    rng = np.random.default_rng(0)
    for name, tags in TAGS.items():
        image = rng.integers(0, 255, (*SIZES[name], 3), dtype=np.uint8)
        cv2.imwrite(str(root / "JPEGImages" / f"{name}.jpg"), image)
        mask = rng.choice([0, *tags, 255], SIZES[name]).astype(np.uint8)
        write_mask(root / "SegmentationClass" / f"{name}.png", mask)
        objects = "".join(
            f"<object><name>{CLASSES[tag]}</name><difficult>{tag - 1}</difficult>"
            "<part><name>head</name></part></object>"
            for tag in tags
        )
        xml = f"<annotation><filename>{name}.jpg</filename>{objects}</annotation>"
        (root / "Annotations" / f"{name}.xml").write_text(xml)
    (root / "ImageSets/Segmentation/train.txt").write_text("a\nb\nc\nd\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("e\nf\n")
    return root


def picture(path: Path, number: int = 0, size: tuple[int, int] = (9, 12)) -> Path:
    """Write a picture, a new file; another number, another picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def arranged(source: Path, **flags) -> tuple[Spec, list[str]]:
    """The data set `mine` beside a folder of pictures, and what was left out of it."""
    result = arrange(Arguments(source, source.parent / "mine", **flags))
    return resolve(str(source.parent / "mine")), result.left_out
