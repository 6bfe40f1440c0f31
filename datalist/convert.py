"""Masks in other formats turned into palette PNGs: SBD's .mat files and COCO's json."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from tqdm import tqdm

from datalist import DataError
from datalist.image import write_mask
from datalist.spec import Spec
from datalist.tag import image_id, indices, read_instances


def augment_voc(spec: Spec, sbd: Path) -> Path:
    """Make SegmentationClassAug: VOC's own masks, and SBD's where VOC has none.

    Args:
        spec: VOC2012.
        sbd: folder of SBD's ID.mat files (benchmark_RELEASE/dataset/cls).

    Returns:
        The folder, which appears when it is whole. A run that was cut off goes on.

    Errors: DataError naming an image that neither has a mask of.

    Source: Hariharan et al., ICCV 2011 (SBD); the 10582 ids of train_aug are what this field
    trains on.
    """
    target = spec.root / "SegmentationClassAug"
    part = spec.root / ".SegmentationClassAug.part"
    part.mkdir(exist_ok=True)
    names = [name for split in ("train", "val") for name in spec.ids(split)]
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
            write_mask(out, read_sbd(mat, spec.num_classes))
        else:
            raise DataError(f"neither {own} nor {mat} exists: VOC2012 or SBD is not whole.")
    os.replace(part, target)
    return target


def read_sbd(path: Path, num_classes: int) -> np.ndarray:
    """Class indices of one of SBD's .mat files, uint8 (H, W)."""
    from scipy.io import loadmat

    try:
        mask = np.asarray(loadmat(path)["GTcls"][0]["Segmentation"][0])
        if mask.ndim != 2 or mask.dtype.kind not in "iu":
            raise ValueError("no class indices")
    except Exception as error:
        # scipy raises whatever the damage leads to, from zlib.error to TypeError.
        raise DataError(f"{path} is not a mask of SBD ({str(error)[:80]}).") from None
    if mask.min(initial=0) < 0 or mask.max(initial=0) >= num_classes:
        raise DataError(f"{path} holds the value {mask.max()}: classes go to {num_classes - 1}.")
    return mask.astype(np.uint8)


def render_coco(spec: Spec, split: str) -> int:
    """Draw the masks of a split of COCO from its instances into SegmentationClass.

    Larger instances are drawn first, so that small ones lie on top; crowds are drawn as their
    class. Masks that are there already are left alone, so that a run that was cut off goes on.

    Returns:
        Number of masks drawn.

    Errors: DataError where the json is missing or lacks an image.
    """
    try:
        from pycocotools import mask as rle
    except ImportError:
        raise DataError("masks of COCO need pycocotools: pip install pycocotools.") from None
    (file,) = [name for name in spec.instances if f"_{split}2014" in name]
    path = spec.root / file
    missing = [name for name in spec.ids(split) if not spec.mask_path(name).is_file()]
    if not missing:
        return 0
    content = read_instances(path)
    images = {image_id(image["file_name"]): image for image in content["images"]}
    index = {
        row["id"]: (*indices([row["name"]], spec.classes, str(path)), 0)[0]
        for row in content["categories"]
    }
    objects: dict[int, list[dict]] = {}
    for annotation in content["annotations"]:
        objects.setdefault(annotation["image_id"], []).append(annotation)
    for name in tqdm(missing, desc=f"masks of {split}", leave=False, disable=None):
        if name not in images:
            raise DataError(f"{path} has no image '{name}'.")
        try:
            height, width = (int(images[name][side]) for side in ("height", "width"))
            mask = np.zeros((height, width), np.uint8)
            for one in sorted(objects.get(images[name]["id"], []), key=lambda one: -one["area"]):
                shape = one["segmentation"]
                if isinstance(shape, list):
                    shape = rle.merge(rle.frPyObjects(shape, height, width))
                elif isinstance(shape["counts"], list):
                    shape = rle.frPyObjects(shape, height, width)
                mask[rle.decode(shape) > 0] = index[one["category_id"]]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"{path}: image '{name}' cannot be drawn ({error}).") from None
        write_mask(spec.mask_path(name), mask)
    return len(missing)
