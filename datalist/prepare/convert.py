"""Masks in other formats turned into palette PNGs: SBD, COCO, annotation tools, public originals.

`python -m datalist.prepare.convert corrected.json mydata` paints what people have corrected;
`python -m datalist.prepare.convert msrc ...`, `... camvid ...` and `... neu ...` build data sets
from public originals.
"""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm
from tyro.conf import Positional

from base import UserError, entry
from datalist.annotation import image_id, parts
from datalist.image import image_size, write_mask
from datalist.mat import apart, read_apart
from datalist.prepare.drawn import paint, read_drawings
from datalist.prepare.masks import new_masks
from datalist.prepare.names import pictures_by_name, without_hash
from datalist.prepare.originals import camvid, msrc, neu
from datalist.prepare.tools import Drawing
from datalist.spec import Spec, resolve
from datalist.tag import indices


def augment_voc(spec: Spec, sbd: Path) -> Path:
    """Make SegmentationClassAug: VOC's own masks, and SBD's where VOC has none.

    `sbd` is the folder of its ID.mat files (benchmark_RELEASE/dataset/cls). The folder appears when
    it is whole. A run that was cut off goes on.

    Raises:
        UserError: neither has a mask of an image.

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
                raise UserError(f"neither {own} nor {mat} exists: VOC2012 or SBD is not whole")
    os.replace(part, target)
    return target


def read_sbd(path: Path, num_classes: int, pool: ProcessPoolExecutor) -> np.ndarray:
    """Class indices of one of SBD's .mat files, uint8 (H, W), read in the process of `apart`."""
    (mask,) = read_apart(path, sbd_arrays, "a mask of SBD", pool)
    if mask.min(initial=0) < 0 or mask.max(initial=0) >= num_classes:
        raise UserError(f"{path} holds the value {mask.max()}: classes go to {num_classes - 1}")
    return mask.astype(np.uint8)


def sbd_arrays(content: dict) -> tuple[np.ndarray, ...]:
    """The mask in what scipy reads of one of SBD's files."""
    return (content["GTcls"][0]["Segmentation"][0],)


def render_coco(spec: Spec, split: str) -> int:
    """Paint the masks of a split of COCO that are not there yet, crowds too; return how many.

    Raises:
        UserError: the json is missing, lacks an image, or holds what cannot be painted.
    """
    (file,) = [name for name in spec.instances if f"_{split}2014" in name]
    path = spec.root / file
    missing = [name for name in spec.ids(split) if not spec.mask_path(name).is_file()]
    if not missing:
        return 0
    drawings = {image_id(drawing.name): drawing for drawing in read_drawings(path)[0]}
    if lost := [name for name in missing if name not in drawings]:
        raise UserError(f"{path} has no image '{lost[0]}'")
    render(spec, {name: drawings[name] for name in missing}, path, spec.mask_folder)
    return len(missing)


def render(spec: Spec, drawings: Mapping[str, Drawing], path: Path, folder: Path) -> None:
    """Paint drawings, by image id, as FOLDER/ID.png; `path` is named in errors."""
    for name, drawing in tqdm(drawings.items(), desc="masks", leave=False, disable=None):
        shapes = [
            ((*indices([label], spec.classes, str(path)), 0)[0], shape)
            for label, shape in drawing.shapes
        ]
        where = f"{path}: image '{drawing.name}'"
        size = drawing.size or image_size(spec.image_path(name))
        write_mask(folder / f"{name}.png", paint(size, shapes, where))


def import_masks(spec: Spec, path: Path, key: str = "") -> tuple[int, list[str]]:
    """Paint the masks of an export of an annotation tool into the folder of masks, or none.

    `key` as of `read_drawings`. Returns the number of masks, and sentences on what was left out.
    """
    drawings, notes = read_drawings(path, key)
    matched, lost = match_drawings(spec, drawings, path)
    for name, drawing in matched.items():
        picture = spec.image_path(name)
        size = image_size(picture)
        if drawing.size not in (None, size):
            raise UserError(
                f"{path}: '{drawing.name}' was drawn on {drawing.size} pixels (height, width), "
                f"but {picture} has {size}: import the pictures of this folder"
            )
        drawing.size = size
        indices([label for label, _ in drawing.shapes], spec.classes, str(path))
    if lost:
        notes.append(f"{len(lost)} images are not in {spec.root}, such as '{lost[0][:80]}'")
    if boxes := [name for name, drawing in matched.items() if not drawing.is_mask]:
        notes.append(
            f"{len(boxes)} images have boxes or other marks alone and get no mask: '{boxes[0]}' ..."
        )
    matched = {name: drawing for name, drawing in matched.items() if drawing.is_mask}
    if not matched:
        raise UserError(f"{path} has no mask or polygon on any picture, only boxes or other marks")
    if empty := [name for name, drawing in matched.items() if not drawing.shapes]:
        notes.append(f"{len(empty)} images have no object and become background: '{empty[0]}' ...")
    with new_masks(spec) as folder:
        render(spec, matched, path, folder)
    return len(matched), notes


def match_drawings(
    spec: Spec, drawings: list[Drawing], path: Path
) -> tuple[dict[str, Drawing], list[str]]:
    """Drawing of each image id, and the names of images that are no pictures of the data set.

    Where all names are those of files in JPEGImages, they mean these files: the export began with
    them. Otherwise the names that pictures had before count too.
    """
    index, own = pictures_by_name(spec)
    lasts = [(parts(drawing.name) or [""])[-1] for drawing in drawings]
    ours = [own.get(last) or own.get(without_hash(last)) for last in lasts]
    matched: dict[str, Drawing] = {}
    lost = []
    for name, drawing in zip(ours, drawings):
        name = name if all(ours) else index.find(drawing.name)
        if name is None:
            lost.append(drawing.name)
        elif name in matched:
            raise UserError(f"{path} has two images that are '{name}' of {spec.root}")
        else:
            matched[name] = drawing
    if not matched:
        raise UserError(
            f"{path} names none of the pictures of {spec.root}: it has '{lost[0][:80]}', the "
            f"pictures are called like '{min(own.values(), default='')}'"
        )
    return matched, lost


def paint_masks(file: Positional[Path], dataset: Positional[str], key: str = "") -> None:
    """Paint masks from an export of an annotation tool into a data set.

    `python -m datalist.prepare.convert msrc --help`, `camvid --help` and `neu --help` build data
    sets instead.

    Args:
        file: COCO instances json, Label Studio json, the XML of "CVAT for images 1.1", or json or
            csv of the VGG Image Annotator.
        dataset: folder in VOC layout; its SegmentationClass gets a PNG for each image of the file.
        key: Label Studio: key of the task's data that holds the picture. VGG Image Annotator:
            attribute of regions that names the class. Only needed where there are several.
    """
    spec = resolve(dataset)
    count, notes = import_masks(spec, file, key)
    print(*(f"note: {note}" for note in notes), f"{spec.mask_folder}: {count} masks", sep="\n")


def main(words: list[str]) -> None:
    """Paint masks, or build a folder; say what was made."""
    builders: dict[str, Callable] = {"msrc": msrc, "camvid": camvid, "neu": neu}
    if words and words[0] in builders:
        out, count = tyro.cli(builders[words[0]], args=words[1:])
        print(f"{out}: {count} images")
    else:
        tyro.cli(paint_masks, args=words)


if __name__ == "__main__":
    with entry():
        main(sys.argv[1:])
