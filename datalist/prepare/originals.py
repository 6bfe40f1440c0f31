"""Folders of real photographs, built from public originals: MSRC v2, CamVid and NEU_Seg.

The classes are some objects, in front of a background, or all labels. The tables below say which
label of the original is which class. docs/data.md says where the originals are and under which
terms.
"""

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from tqdm import tqdm
from tyro.conf import Positional

from base import IGNORE, UserError
from datalist.folder import new_data_folder
from datalist.image import image_size, read_image, read_mask, write_mask
from datalist.mat import apart, read_apart
from datalist.spec import read_ids

MSRC_LABELS = (
    *("building", "grass", "tree", "cow", "horse", "sheep", "sky", "mountain", "aeroplane"),
    *("water", "face", "car", "bicycle", "flower", "sign", "bird", "book", "chair", "road"),
    *("cat", "dog", "body", "boat"),
)
"""Labels 1 to 23 of the cleaned segmentations."""
MSRC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "book", "car", "cat", "chair", "cow"),
    *("dog", "flower", "person", "sheep", "sign"),
)
MSRC_RENAMED = {"face": "person", "body": "person"}
MSRC_IGNORED = {"horse"}
"""Labels that are neither a class nor background: too few pictures."""
MSRC_ALL = ("background", *dict.fromkeys(MSRC_RENAMED.get(label, label) for label in MSRC_LABELS))
"""Classes where each label is one; no pixel is background."""
MSRC_TAG_PIXELS = 150
"""Pixels of a class that make a tag."""

CAMVID_CLASSES = ("background", "sky", "tree", "car", "person")
CAMVID_LABELS = {0: 1, 5: 2, 8: 3, 9: 4, 10: 4, 11: IGNORE}
"""Label of the SegNet tutorial (pedestrian 9, bicyclist 10, void 11) -> class; others: 0."""
CAMVID_ALL = (
    *("background", "sky", "building", "pole", "road", "pavement"),
    *("tree", "sign", "fence", "car", "person"),
)
"""Classes where each label is one; no pixel is background."""
CAMVID_ALL_LABELS = {**{label: label + 1 for label in range(10)}, 10: 10, 11: IGNORE}
"""Label -> class of `CAMVID_ALL`. A bicyclist, whose label includes the bicycle, is a person."""
CAMVID_FRAME = (360, 480)
"""Height and width of a frame."""
CAMVID_WINDOW = (180, 160)
"""Height and width: two rows and three columns of a frame of 360 x 480."""
CAMVID_SHARE = 0.01
"""Share of a window below which a class becomes `IGNORE`."""

Labels = Literal["objects", "all"]
"""objects: some labels are classes, the others background. all: each label is a class."""

QUALITY = 92
"""JPEG quality of the pictures."""

NEU_CLASSES = ("background", "inclusion", "patches", "scratches")
NEU_TAG_PIXELS = 60
"""Pixels of a class that make a tag."""

Sample = tuple[np.ndarray | Path, np.ndarray, tuple[int, ...]]
"""Image RGB uint8 (H, W, 3), or a JPEG to copy; mask uint8 (H, W); tags."""


def msrc(
    images: Positional[Path],
    mats: Positional[Path],
    lists: Positional[Path],
    out: Positional[Path],
    labels: Labels = "objects",
) -> tuple[Path, int]:
    """Build a folder of MSRC v2 from the public originals; see docs/data.md.

    Args:
        images: folder Images of MSRC v2: ID.bmp.
        mats: folder newsegmentations_mats of Malisiewicz and Efros: ID_GT.mat.
        lists: folder of lists of ids, such as train.txt and val.txt.
        out: folder to make.
        labels: objects: 14 classes before a background. all: each of the 23 labels is a class (22;
            face and body are person), as external masks need it.

    Returns the folder, and its number of images.

    Raises:
        UserError: a missing or unreadable file.
    """
    classes = MSRC_CLASSES if labels == "objects" else MSRC_ALL
    # Where all labels are classes, nothing is background: what has no label is void.
    rest = 0 if labels == "objects" else IGNORE
    names = [MSRC_RENAMED.get(label, label) for label in MSRC_LABELS]
    index = {**dict.fromkeys(MSRC_IGNORED, IGNORE), **{c: k for k, c in enumerate(classes)}}
    table = np.array([rest, *(index.get(name, rest) for name in names)], np.uint8)
    what = "a cleaned segmentation of MSRC v2"

    def sample(name: str) -> Sample:
        # `newseg` numbers segments from 1, `newlabels` has the label of each; a segment beyond
        # that list is void.
        path = mats / f"{name}_GT.mat"
        segments, label = read_apart(path, msrc_arrays, what, pool)
        if segments.min() < 1 or label.min() < 0 or label.max() >= len(table):
            raise UserError(f"{path} is not {what} (its numbers are out of range)")
        index = np.full(max(int(segments.max()), label.size) + 1, IGNORE, np.uint8)
        index[1 : label.size + 1] = table[label.ravel()]
        mask = index[segments]
        return read_image(images / f"{name}.bmp"), mask, shown(mask, classes, MSRC_TAG_PIXELS)

    with apart() as pool:
        return build(out, lists, classes, sample)


def msrc_arrays(content: dict) -> tuple[np.ndarray, ...]:
    """Segments (H, W) and labels (1, K) in what scipy reads of a cleaned segmentation."""
    return content["newseg"], content["newlabels"]


def camvid(
    images: Positional[Path],
    lists: Positional[Path],
    out: Positional[Path],
    labels: Labels = "objects",
) -> tuple[Path, int]:
    """Build a folder of CamVid from the SegNet tutorial's frames; see docs/data.md.

    Args:
        images: folder CamVid of the SegNet tutorial: train/FRAME.png, trainannot/FRAME.png, val,
            test.
        lists: folder of lists, such as train.txt and val.txt, of ids FRAME_rc (a window in row r,
            column c) or FRAME (all of it).
        out: folder to make.
        labels: objects: 4 classes before a background. all: each of the 11 labels is a class (10;
            pedestrians and bicyclists are person), as external masks need it.

    Returns, Raises: as of `msrc`.
    """
    classes, meaning = CAMVID_CLASSES, CAMVID_LABELS
    if labels == "all":
        classes, meaning = CAMVID_ALL, CAMVID_ALL_LABELS
    table = np.zeros(256, np.uint8)
    table[list(meaning)] = list(meaning.values())

    def find(frame: str) -> Path | None:
        paths = (images / part / f"{frame}.png" for part in ("train", "val", "test"))
        return next(filter(Path.is_file, paths), None)

    def sample(name: str) -> Sample:
        frame, inside = name, (slice(None), slice(None))
        if (path := find(name)) is None:
            frame, inside = camvid_window(name)
            path = find(frame)
        if path is None:
            raise UserError(f"{images} has no frame {frame}.png in train, val or test")
        label = read_mask(images / f"{path.parent.name}annot" / path.name)
        image = read_image(path)
        if label.shape != CAMVID_FRAME or image.shape[:2] != CAMVID_FRAME:
            raise UserError(f"{path} is not 360 x 480 pixels")
        image, mask = image[inside], table[label[inside]]
        tags = shown(mask, classes, CAMVID_SHARE * mask.size)
        mask[~np.isin(mask, [0, *tags])] = IGNORE
        return image, mask, tags

    return build(out, lists, classes, sample)


def camvid_window(name: str) -> tuple[str, tuple[slice, slice]]:
    """Frame of a window's id FRAME_rc, and its rows and columns there."""
    match = re.fullmatch("(.+)_([01])([012])", name)
    if match is None:
        raise UserError(f"'{name}' is not a window of a CamVid frame: FRAME_rc is needed")
    height, width = CAMVID_WINDOW
    top, left = int(match[2]) * height, int(match[3]) * width
    return match[1], (slice(top, top + height), slice(left, left + width))


def neu(root: Positional[Path], lists: Positional[Path], out: Positional[Path]) -> tuple[Path, int]:
    """Build a folder of NEU_Seg, defects of steel surfaces; see docs/data.md.

    Args:
        root: folder of the public original: images/training/N.jpg, annotations/training/N.png, and
            test.
        lists: folder of lists of ids, such as train.txt and val.txt: steel_N of the training part,
            steel_test_N of the other.
        out: folder to make.

    Returns, Raises: as of `msrc`.
    """

    def sample(name: str) -> Sample:
        match = re.fullmatch(r"steel_(test_)?(\d+)", name)
        if match is None:
            raise UserError(f"'{name}' is not an image of NEU_Seg: steel_N is needed")
        part = "test" if match[1] else "training"
        image = root / "images" / part / f"{match[2]}.jpg"
        path = root / "annotations" / part / f"{match[2]}.png"
        mask = read_mask(path)
        if mask.max(initial=0) >= len(NEU_CLASSES) or mask.shape != image_size(image):
            raise UserError(f"{path} is not a mask of NEU_Seg")
        return image, mask, shown(mask, NEU_CLASSES, NEU_TAG_PIXELS)

    return build(out, lists, NEU_CLASSES, sample)


def shown(mask: np.ndarray, classes: Sequence[str], least: float) -> tuple[int, ...]:
    """Classes, but the background, of at least so many pixels (one where `least` is below)."""
    count = np.bincount(mask.ravel(), minlength=256)[: len(classes)]
    return tuple(int(k) for k in np.flatnonzero(count >= max(least, 1)) if k)


def build(
    out: Path, lists: Path, classes: Sequence[str], sample: Callable[[str], Sample]
) -> tuple[Path, int]:
    """Write the sample of each id of the lists into a folder in VOC layout."""
    splits = {path.stem: read_ids(path) for path in sorted(lists.glob("*.txt"))}
    if not splits:
        raise UserError(f"{lists} holds no list of ids: train.txt and val.txt are needed")
    ids = list(dict.fromkeys(name for split in splits.values() for name in split))
    with new_data_folder(out, classes) as data:
        for name in tqdm(ids, desc=out.name, leave=False, disable=None):
            image, mask, data.tags[name] = sample(name)
            if isinstance(image, Path):
                shutil.copyfile(image, data.image(name))
            else:
                Image.fromarray(np.ascontiguousarray(image)).save(data.image(name), quality=QUALITY)
            write_mask(data.mask(name), mask)
        data.tags = dict(sorted(data.tags.items()))
        data.lists = splits
    return out, len(ids)
