"""Folders of real photographs, built from public originals: MSRC v2, CamVid and NEU_Seg.

The classes are some objects, in front of a background, or all labels. The tables below say which
label of the original is which class. docs/data.md says where the originals are and under which
terms.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from tqdm import tqdm

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
    *("background", "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car"),
    *("person",),
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
NEU_PREFIX = "steel_"
NEU_TAG_PIXELS = 60
"""Pixels of a class that make a tag."""

Sample = tuple[np.ndarray | Path, np.ndarray, tuple[int, ...]]
"""Image RGB uint8 (H, W, 3), or a JPEG to copy; mask uint8 (H, W); tags."""


def msrc(images: Path, mats: Path, lists: Path, out: Path, labels: Labels = "objects") -> int:
    """Build a folder of MSRC v2; return the number of images.

    Args:
        images: folder of ID.bmp.
        mats: folder of ID_GT.mat: `newseg` numbers segments from 1, `newlabels` has the label of
            each; a segment beyond that list is void.
        lists: folder of lists of ids.
        out: folder to make.
        labels: which labels are classes.

    Raises:
        UserError: a missing or unreadable file.
    """
    classes = MSRC_CLASSES if labels == "objects" else MSRC_ALL
    # Where all labels are classes, nothing is background: what has no label is void.
    table = np.full(len(MSRC_LABELS) + 1, 0 if labels == "objects" else IGNORE, np.uint8)
    for number, label in enumerate(MSRC_LABELS, 1):
        name = MSRC_RENAMED.get(label, label)
        if name in classes:
            table[number] = classes.index(name)
        elif name in MSRC_IGNORED:
            table[number] = IGNORE

    def samples(ids: list[str]) -> Iterator[Sample]:
        with apart() as pool:
            for name in ids:
                path = mats / f"{name}_GT.mat"
                what = "a cleaned segmentation of MSRC v2"
                segments, label = read_apart(path, msrc_arrays, what, pool)
                if segments.min() < 1 or label.min() < 0 or label.max() >= len(table):
                    raise UserError(f"{path} is not {what} (its numbers are out of range).")
                index = np.full(max(int(segments.max()), label.size) + 1, IGNORE, np.uint8)
                index[1 : label.size + 1] = table[label.ravel()]
                mask = index[segments]
                count = np.bincount(mask.ravel(), minlength=256)[1 : len(classes)]
                tags = tuple(int(k) + 1 for k in np.flatnonzero(count >= MSRC_TAG_PIXELS))
                yield read_image(images / f"{name}.bmp"), mask, tags

    return _build(out, lists, classes, samples)


def msrc_arrays(content: dict) -> tuple[np.ndarray, ...]:
    """Segments (H, W) and labels (1, K) in what scipy reads of a cleaned segmentation."""
    return content["newseg"], content["newlabels"]


def camvid(images: Path, lists: Path, out: Path, labels: Labels = "objects") -> int:
    """Build a folder of CamVid; return the number of images.

    Args:
        images: folder with train, val and test (FRAME.png) and trainannot, valannot, testannot.
        lists: folder of lists of ids: FRAME_rc, where r and c are row and column of the window,
            or FRAME, the whole of it.
        out: folder to make.
        labels: which labels are classes.

    Raises:
        UserError: a missing or unreadable file, or an id of another form.
    """
    classes, meaning = CAMVID_CLASSES, CAMVID_LABELS
    if labels == "all":
        classes, meaning = CAMVID_ALL, CAMVID_ALL_LABELS
    table = np.zeros(256, np.uint8)
    table[list(meaning)] = list(meaning.values())

    def split_of(frame: str) -> str | None:
        folders = ("train", "val", "test")
        return next((s for s in folders if (images / s / f"{frame}.png").is_file()), None)

    def samples(ids: list[str]) -> Iterator[Sample]:
        for name in ids:
            frame, inside = name, (slice(None), slice(None))
            if (split := split_of(name)) is None:
                frame, inside = camvid_window(name)
                split = split_of(frame)
            if split is None:
                raise UserError(f"{images} has no frame {frame}.png in train, val or test.")
            label = read_mask(images / f"{split}annot" / f"{frame}.png")
            image = read_image(images / split / f"{frame}.png")
            if label.shape != CAMVID_FRAME or image.shape[:2] != CAMVID_FRAME:
                raise UserError(f"{images / split / frame}.png is not 360 x 480 pixels.")
            image, mask = image[inside], table[label[inside]]
            count = np.bincount(mask.ravel(), minlength=256)
            for index in range(1, len(classes)):
                if count[index] < CAMVID_SHARE * mask.size:
                    mask[mask == index] = IGNORE
            tags = tuple(int(k) for k in np.unique(mask) if 0 < k < IGNORE)
            yield image, mask, tags

    return _build(out, lists, classes, samples)


def camvid_window(name: str) -> tuple[str, tuple[slice, slice]]:
    """Frame of a window's id FRAME_rc, and its rows and columns there.

    Raises:
        UserError: an id of another form.
    """
    frame, _, window = name.rpartition("_")
    if not frame or len(window) != 2 or window[0] not in "01" or window[1] not in "012":
        raise UserError(f"'{name}' is not a window of a CamVid frame: FRAME_rc is needed.")
    height, width = CAMVID_WINDOW
    top, left = int(window[0]) * height, int(window[1]) * width
    return frame, (slice(top, top + height), slice(left, left + width))


def neu(root: Path, lists: Path, out: Path) -> int:
    """Build a folder of NEU_Seg, surfaces of steel; return the number of images.

    Args:
        root: folder with images/training/N.jpg and annotations/training/N.png, and test.
        lists: folder of lists of ids: steel_N of the training part, steel_test_N of the other.
        out: folder to make.

    Raises:
        UserError: for a missing or unreadable file, or an id of another form.
    """

    def samples(ids: list[str]) -> Iterator[Sample]:
        for name in ids:
            number = name.removeprefix(NEU_PREFIX)
            part = "test" if number.startswith("test_") else "training"
            number = number.removeprefix("test_")
            if not name.startswith(NEU_PREFIX) or not number.isdigit():
                raise UserError(f"'{name}' is not an image of NEU_Seg: steel_N is needed.")
            image = root / "images" / part / f"{number}.jpg"
            mask = read_mask(root / "annotations" / part / f"{number}.png")
            if mask.max(initial=0) >= len(NEU_CLASSES) or mask.shape != image_size(image):
                raise UserError(f"{root}/annotations/{part}/{number}.png is no mask of NEU_Seg.")
            count = np.bincount(mask.ravel(), minlength=len(NEU_CLASSES))
            tags = tuple(k for k in range(1, len(NEU_CLASSES)) if count[k] >= NEU_TAG_PIXELS)
            yield image, mask, tags

    return _build(out, lists, NEU_CLASSES, samples)


def _build(out: Path, lists: Path, classes: tuple[str, ...], samples) -> int:
    splits = {path.stem: read_ids(path) for path in sorted(lists.glob("*.txt"))}
    if not splits:
        raise UserError(f"{lists} holds no list of ids: train.txt and val.txt are needed.")
    ids = list(dict.fromkeys(name for split in splits.values() for name in split))
    with new_data_folder(out, classes) as data:
        bar = tqdm(samples(ids), desc=out.name, total=len(ids), leave=False, disable=None)
        for name, (image, mask, row) in zip(ids, bar):
            if isinstance(image, Path):
                shutil.copyfile(image, data.image(name))
            else:
                Image.fromarray(np.ascontiguousarray(image)).save(data.image(name), quality=QUALITY)
            write_mask(data.mask(name), mask)
            data.tags[name] = row
        data.tags = dict(sorted(data.tags.items()))
        data.lists = splits
    return len(ids)
