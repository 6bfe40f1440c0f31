"""Masks in other formats turned into palette PNGs: SBD's .mat files and COCO's json.

`python -m datalist.convert instances.json mydata` draws what people have corrected.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from tqdm import tqdm

from base import UserError, entry
from datalist.image import PIXEL_LIMIT, write_mask
from datalist.spec import Spec, resolve
from datalist.tag import image_id, indices, read_instances

MAT_SECONDS = 5
"""Seconds after which a .mat file counts as damaged; a whole one takes a millisecond."""


def augment_voc(spec: Spec, sbd: Path) -> Path:
    """Make SegmentationClassAug: VOC's own masks, and SBD's where VOC has none.

    Args:
        spec: VOC2012.
        sbd: folder of SBD's ID.mat files (benchmark_RELEASE/dataset/cls).

    Returns:
        The folder, which appears when it is whole. A run that was cut off goes on.

    Errors: UserError naming an image that neither has a mask of.

    Source: Hariharan et al., ICCV 2011 (SBD); the 10582 ids of train_aug are what this field
    trains on.
    """
    target = spec.root / "SegmentationClassAug"
    part = spec.root / ".SegmentationClassAug.part"
    part.mkdir(exist_ok=True)
    names = [name for split in ("train", "val") for name in spec.ids(split)]
    with apart() as pool:
        for name in tqdm(names, desc=target.name, leave=False, disable=None):
            out = part / f"{name}.png"
            if out.is_file():
                continue
            own = spec.root / "SegmentationClass" / f"{name}.png"
            if own.is_file():
                copy = part / f".{name}.part"
                shutil.copyfile(own, copy)
                os.replace(copy, out)
            elif (mat := sbd / f"{name}.mat").is_file():
                write_mask(out, read_sbd(mat, spec.num_classes, pool))
            else:
                raise UserError(f"neither {own} nor {mat} exists: VOC2012 or SBD is not whole.")
    os.replace(part, target)
    return target


def apart() -> ProcessPoolExecutor:
    """A process to read .mat files in: on damaged ones scipy's compiled code can crash."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def read_sbd(path: Path, num_classes: int, pool: ProcessPoolExecutor) -> np.ndarray:
    """Class indices of one of SBD's .mat files, uint8 (H, W), read in the process of `apart`.

    Errors: UserError for another file; where it crashed the process, the pool is of no more use.
    """
    try:
        mask = pool.submit(load_sbd, path).result(2 * MAT_SECONDS)
    except Exception as error:
        # scipy raises whatever the damage leads to, from zlib.error to TypeError.
        reason = " ".join(str(error).split())[:80]
        raise UserError(f"{path} is not a mask of SBD ({reason}).") from None
    if mask.min(initial=0) < 0 or mask.max(initial=0) >= num_classes:
        raise UserError(f"{path} holds the value {mask.max()}: classes go to {num_classes - 1}.")
    return mask.astype(np.uint8)


def load_sbd(path: Path) -> np.ndarray:
    """Integers (H, W) of GTcls.Segmentation in a .mat file; ends its process if it takes long."""
    from scipy.io import loadmat

    alarm = getattr(signal, "alarm", lambda seconds: None)  # Windows has none
    alarm(MAT_SECONDS)  # scipy's compiled code hears of nothing else
    try:
        mask = np.asarray(loadmat(path)["GTcls"][0]["Segmentation"][0])
    finally:
        alarm(0)
    if mask.ndim != 2 or mask.dtype.kind not in "iu":
        raise ValueError("no class indices")
    return mask


def render_coco(spec: Spec, split: str) -> int:
    """Draw the masks of a split of COCO that are not there yet; see `render`."""
    (file,) = [name for name in spec.instances if f"_{split}2014" in name]
    missing = [name for name in spec.ids(split) if not spec.mask_path(name).is_file()]
    return render(spec, spec.root / file, missing) if missing else 0


def render(spec: Spec, path: Path, names: Iterable[str] | None = None) -> int:
    """Draw the masks of images from a COCO instances json into SegmentationClass.

    Larger instances are drawn first, so that small ones lie on top; crowds are drawn as their
    class.

    Args:
        spec: the data set.
        path: the json.
        names: image ids; default all in the file.

    Returns:
        Number of masks drawn.

    Errors: UserError where the json is missing, lacks an image, or holds what cannot be drawn.
    """
    content = read_instances(path)
    images = {image_id(image["file_name"]): image for image in content["images"]}
    index = {
        row["id"]: (*indices([row["name"]], spec.classes, str(path)), 0)[0]
        for row in content["categories"]
    }
    objects: dict[int, list[dict]] = {}
    for annotation in content["annotations"]:
        objects.setdefault(annotation["image_id"], []).append(annotation)
    names = list(images if names is None else names)
    for name in tqdm(names, desc=f"masks from {path.name}", leave=False, disable=None):
        if name not in images:
            raise UserError(f"{path} has no image '{name}'.")
        mask = draw_objects(images[name], objects.get(images[name]["id"], []), index, path)
        write_mask(spec.mask_path(name), mask)
    return len(names)


def draw_objects(image: dict, objects: list[dict], index: dict[int, int], path: Path) -> np.ndarray:
    """Draw the objects of an image of a COCO instances json, the largest first.

    Args:
        image: its entry in the json, with `file_name`, `height` and `width`.
        objects: its annotations.
        index: class index of each category id.
        path: the json, for errors.

    Returns:
        Class indices, uint8 (height, width).

    Errors: UserError for an object that cannot be drawn, or without pycocotools.
    """
    try:
        height, width = image["height"], image["width"]
        if type(height) is not int or type(width) is not int or min(height, width) < 1:
            raise ValueError(f"{height!r} x {width!r} pixels")
        if height * width > PIXEL_LIMIT:
            raise ValueError(f"{height} x {width} pixels are too many")
        mask = np.zeros((height, width), np.uint8)
        for one in sorted(objects, key=lambda one: -one["area"]):
            mask[object_mask(one["segmentation"], height, width)] = index[one["category_id"]]
    except ImportError:
        raise UserError("masks of COCO need pycocotools: pip install pycocotools.") from None
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        name = image["file_name"]
        raise UserError(f"{path}: image '{name}' cannot be drawn ({error}).") from None
    return mask


def object_mask(shape: list | dict, height: int, width: int) -> np.ndarray:
    """Pixels of one object, bool (H, W), from COCO's polygons or run lengths.

    Errors: ValueError or TypeError for what pycocotools' C code would take without a look.
    """
    from pycocotools import mask as rle

    if isinstance(shape, list):
        for path in shape:
            points = np.asarray(path, float).reshape(-1, 2)
            # Its time and memory grow with the length of the outline.
            if len(points) < 3 or not (np.abs(points) <= 2 * max(height, width)).all():
                raise ValueError("a polygon of less than three corners, or far outside")
        packed = rle.merge(rle.frPyObjects(shape, height, width))
    else:
        packed = {"size": [height, width], "counts": shape["counts"]}
        if shape["size"] != packed["size"]:
            raise ValueError(f"run lengths of {shape['size']!r} pixels")
        if isinstance(shape["counts"], list):
            if not all(type(run) is int and run >= 0 for run in shape["counts"]):
                raise ValueError("run lengths that are no numbers")
            if sum(shape["counts"]) != height * width:
                raise ValueError("run lengths that do not fill the image")
            packed = rle.frPyObjects(packed, height, width)
        elif not isinstance(shape["counts"], str) or not shape["counts"].isascii():
            raise ValueError("run lengths that are no text")
    return rle.decode(packed) > 0


@dataclass(frozen=True)
class Arguments:
    """Draw masks from a COCO instances json, as labelling tools export it, into a data set."""

    instances: Annotated[Path, tyro.conf.Positional]
    """The json."""
    dataset: Annotated[str, tyro.conf.Positional]
    """Folder in VOC layout; its SegmentationClass gets a PNG for each image of the json."""


def main(arguments: Arguments) -> None:
    """Draw the masks of every image in the json."""
    spec = resolve(arguments.dataset)
    print(f"{spec.mask_folder}: {render(spec, arguments.instances)} masks")


if __name__ == "__main__":
    with entry("error"):
        main(tyro.cli(Arguments, description=Arguments.__doc__))
