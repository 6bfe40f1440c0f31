"""Every reader of files: how a hostile file for it is made, and how it is read."""

import io
import json
import pickle
import random
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import tifffile
import torch
from hostile import (
    caffemodel,
    damage,
    npy,
    odd_array,
    odd_json,
    odd_npz,
    odd_pickle,
    odd_png,
    odd_recipe,
    odd_tensors,
    odd_tree,
    text,
)
from networks import vgg
from safetensors.torch import save

from datalist.answer import GroupFile, read_answers
from datalist.bands import Bands, read_bands
from datalist.cue import CueFile
from datalist.image import PictureFile, image_size, read_image, read_mask
from datalist.pickled import read_cues, read_index
from datalist.prepare.check import inspect
from datalist.prepare.convert import apart, read_sbd
from datalist.prepare.drawn import paint, read_drawings
from datalist.prepare.exports import read_export
from datalist.prepare.names import NameIndex
from datalist.prepare.table import read_grid, read_table
from datalist.saliency import read_saliency
from datalist.spec import Spec, read_classes, read_ids, safe_id
from datalist.tag import from_instances, from_text, from_xml
from method import stage_class
from method.restore import restore
from network.source import read_state
from network.vgg import LargeFOV, LargeFOVHead
from network.weight import load_vgg
from utils import checkpoint, export
from utils.output import read_score, upsample
from utils.report.page import read_log

CLASSES = ("background", "cat", "dog")
XML = b"<annotation><object><name>cat</name><part><name>head</name></part></object></annotation>"
INSTANCES = {
    "images": [{"id": 1, "file_name": "x.jpg", "height": 9, "width": 12}],
    "annotations": [
        {"image_id": 1, "category_id": 3, "segmentation": [[1, 1, 8, 1, 8, 7.5]], "area": 20},
        {
            "image_id": 1, "category_id": 5, "area": 2, "iscrowd": 1,
            "segmentation": {"size": [9, 12], "counts": [3, 5, 100]},
        },
        {
            "image_id": 1, "category_id": 5, "area": 1,
            "segmentation": {"size": [9, 12], "counts": "35Y3"},
        },
    ],
    "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
}  # fmt: skip
TABLES = (
    b"image,fold,label,cow\na.jpg,1,'[x, y]',0\nb,2,\"dog, cat\",1\n",
    b"a.jpg,1,2,3,4,cow\na.jpg,5,6,7,8,dog\nb.jpg,,,,,\n",
    b"image;cow;dog\na.jpg;1;0\nb.jpg;0;0,7\n",
)
EXPORT = Path(__file__).parent / "datalist/export"
RECORDS = [{"file_name": "a.jpg", "labels": ["cat"], "objects": {"category": [1]}}]
TASKS = [
    {
        "data": {"image": "a.jpg"},
        "annotations": [{"result": [{"value": {"choices": ["cat"]}}], "was_cancelled": False}],
    }
]
CVAT = b'<annotations><image name="a.jpg"><tag label="cat"/></image></annotations>'
PHOTOS = NameIndex({"a.jpg": ["a.jpg"], "b.jpg": ["b.jpg"]})
PICKLE = {
    "0_labels": np.array([2], np.int64),
    "0_cues": np.array([[0, 2], [0, 1], [4, 1]], np.int64),
    "1_cues": np.array([[1], [2], [2]], np.int64),
}


def read_rows(path: Path) -> None:
    """A table of tags."""
    table = read_table(path, PHOTOS)
    assert table.rows and str(table).startswith("separator: ")


def read_records(path: Path) -> object:
    """Tags of an export: rows, or a grid that is read as a table."""
    rows = read_export(path)
    return read_grid(path, rows, PHOTOS) if rows and isinstance(rows[0], list) else rows


@dataclass(frozen=True)
class Reader:
    """How to make a file of one kind, and how to read it."""

    make: Callable[[random.Random], bytes]
    read: Callable[[Path], object]


def named(ids) -> None:
    """Fail for an id that could leave its folder."""
    assert all(safe_id(name) == name and Path("a", name).parent == Path("a") for name in ids)


def read_list(path: Path) -> None:
    named(read_ids(path))


def read_numbers(path: Path) -> None:
    named(read_index(path).values())


def tags(reader: Callable) -> Callable[[Path], None]:
    """Read a file of tags, and look at what came."""

    def read(path: Path) -> None:
        found = reader(path, CLASSES)
        named(found)
        assert all(set(row) <= {1, 2} for row in found.values())

    return read


def tiff(rng: random.Random) -> bytes:
    """A TIFF of some type, number of bands and layout."""
    file = io.BytesIO()
    kind = rng.choice([np.uint8, np.uint16, np.int16, np.float32])
    values = np.arange(20 * 24 * 3).reshape(20, 24, 3)[..., : rng.choice([1, 3])]
    options = {"tile": (16, 16)} if rng.random() < 0.5 else {"rowsperstrip": 7}
    packed = rng.choice([None, "zlib", "lzw"])
    tifffile.imwrite(file, values.astype(kind), compression=packed, **options)
    return file.getvalue()


def read_tiff(path: Path) -> None:
    """A TIFF, whole and in a window."""
    bands = Bands(low=(0.0,), high=(999.0,))
    image = read_image(path, bands)
    assert image.dtype == np.uint8 and image.shape == (*image_size(path), 3)
    with PictureFile(path, bands) as picture:
        assert np.array_equal(picture.read(3, 2, 5, 9), image[3:8, 2:11])


def read_pictures(path: Path) -> None:
    """An image as image and as mask, each of which may refuse it."""
    try:
        image = read_image(path)
        assert image.dtype == np.uint8 and image.shape == (*image_size(path), 3)
    finally:
        mask = read_mask(path, 3)
        assert mask.dtype == np.uint8 and mask.ndim == 2 and set(np.unique(mask)) <= {0, 1, 2, 255}


def draw_masks(path: Path) -> None:
    """Masks of all images of an export."""
    for drawing in read_drawings(path)[0]:
        shapes = [(1, shape) for _, shape in drawing.shapes]
        assert paint(drawing.size or (20, 30), shapes, str(path)).dtype == np.uint8


def open_cues(path: Path) -> None:
    cues = CueFile.open(path)
    named(cues.ids)
    for _, cue in zip(range(9), cues.items()):
        assert cue[1].shape == (cues.num_classes, *cues.grid)


def open_groups(path: Path) -> None:
    for code in GroupFile.read(path).codes.values():
        assert code.ndim == 2 and code.dtype == np.uint8 and code.size


def make_pickle(rng: random.Random) -> bytes:
    return odd_pickle(rng, pickle.dumps(PICKLE, rng.randint(1, 5)))


def open_score(path: Path) -> None:
    found = read_score(path)
    assert upsample(found.score, found.size).shape == (len(found.keys), *found.size)


def open_pickle(path: Path) -> None:
    index = path.with_name("index.txt")
    index.write_text("x.jpg 0\ny.jpg 1\n")
    try:
        cues = read_cues(path, index)
        CueFile.open(path, index=index)
    finally:
        index.unlink()
    assert all(cue.dtype.kind in "iu" and cue.ndim == 2 for cue in cues.values())


def open_folder(path: Path) -> None:
    """A folder of the cue of one image."""
    CueFile.open(path.parent)


@cache
def content() -> dict:
    """A sound checkpoint of a small network."""
    kind = stage_class("sec")
    spec = Spec(name="x", root=Path(), classes=CLASSES, lists={})
    stage = kind(kind.recipes["smoke"], spec)
    return {
        "format": checkpoint.FORMAT, "stage": "sec", "recipe": asdict(stage.recipe), "step": 4,
        "classes": list(CLASSES), "network": dict(stage.network.state_dict()),
    }  # fmt: skip


def make_checkpoint(rng: random.Random) -> bytes:
    whole = dict(content())
    for _ in range(rng.randint(0, 2)):
        part = rng.choice(("recipe", "recipe", "recipe", "classes", "network", "stage", "step"))
        if part == "network":
            whole[part] = odd_tensors(rng, whole[part])
        elif part == "recipe":
            whole[part] = odd_recipe(rng, whole[part])
        else:
            whole[part] = odd_tree(rng, whole[part])
    file = io.BytesIO()
    torch.save(whole, file, _use_new_zipfile_serialization=rng.random() < 0.9)
    data = file.getvalue()
    return damage(rng, data) if rng.random() < 0.4 else data


def make_safetensors(rng: random.Random) -> bytes:
    whole = content()
    metadata = {key: odd_json(rng, whole[key]).decode("latin-1") if rng.random() < 0.2
                else json.dumps(whole[key]) for key in export.DESCRIPTION}  # fmt: skip
    metadata["seedseg"] = export.FORMAT
    data = save(whole["network"], metadata)
    if rng.random() < 0.5:
        length = int.from_bytes(data[:8], "little")
        head = odd_json(rng, json.loads(data[8 : 8 + length]))
        data = len(head).to_bytes(8, "little") + head + data[8 + length :]
    return damage(rng, data) if rng.random() < 0.3 else data


def make_weights(rng: random.Random) -> bytes:
    state = {key.removeprefix("trunk."): value for key, value in content()["network"].items()}
    state = odd_tensors(rng, state) if rng.random() < 0.6 else state
    whole = {"state_dict": state} if rng.random() < 0.2 else state
    file = io.BytesIO()
    if rng.random() < 0.1:
        pickle.dump(whole, file)
    else:
        torch.save(whole, file)
    data = file.getvalue()
    return damage(rng, data) if rng.random() < 0.5 else data


def make_caffemodel(rng: random.Random) -> bytes:
    state = {"fc6.weight": np.ones((3, 4), np.float32), "fc6.bias": np.ones(3, np.float32)}
    return damage(rng, caffemodel(state, old=rng.random() < 0.5))


def make_mat(rng: random.Random) -> bytes:
    from scipy.io import savemat

    file = io.BytesIO()
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    mask = odd_array(rng, mask) if rng.random() < 0.3 else mask
    mask = mask if mask.dtype.kind in "iufcb" else np.frombuffer(mask.tobytes(), np.uint8)
    savemat(file, {"GTcls": {"Segmentation": mask}}, do_compression=rng.random() < 0.5)
    return damage(rng, file.getvalue())


@cache
def mat_process() -> list:
    return [apart()]


def end_processes() -> None:
    """End what readers started: a process that it belongs to would wait for it for ever."""
    if mat_process.cache_info().currsize:
        mat_process()[0].shutdown()


def open_mat(path: Path) -> None:
    (pool,) = mat_process()
    try:
        assert read_sbd(path, 3, pool).max(initial=0) < 3
    finally:
        try:
            pool.submit(int).result()
        except BrokenExecutor:
            mat_process()[0] = apart()


def load_weights(path: Path) -> None:
    network = LargeFOV(vgg((4,) * 5, depth=(1,) * 5), 3, LargeFOVHead(8))
    load_vgg(network, str(path))


def restore_checkpoint(path: Path) -> None:
    restore(path, checkpoint.load(path), photos=True)


def restore_safetensors(path: Path) -> None:
    restore(path, export.read_safetensors(path), photos=True)


def check_folder(path: Path) -> None:
    """Tags of somebody's own folder, whose only file is damaged: told, not raised."""
    spec = Spec("own", path.parent, CLASSES, {"train": path}, image=(".",), annotation=".")
    inspect(spec, ["train"])


BANDS = {"index": [4, 3, 2, 1], "low": [0.5], "high": [9], "mean": [1.0] * 4,
         "deviation": [2] * 4}  # fmt: skip
SCORE = {
    "score": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "keys": np.array([0, 2]),
    "size": np.array([9, 12]),
}  # fmt: skip
PACKED = {
    "ids": np.array(["a", "b"]), "grid": np.array([4, 5]), "num_classes": np.array(3),
    "offset": np.array([0, 2, 3]), "cell": np.array([1, 25, 59], np.int32),
}  # fmt: skip
CELLS = {
    "cue": np.array([[0, 1], [2, 3], [4, 0]], np.int16), "grid": np.array([4, 5]),
    "num_classes": np.array(3),
}  # fmt: skip
GROUPS = {
    "source": np.array(["x"]), "asked": np.array([[1, 1]]), "classes": np.array(CLASSES),
    "id": np.array(["a", "b"]),
    "contrast": np.array([0], np.uint8),
    "index": np.array([1, 2]), "shape": np.array([[2, 3], [1, 2]]),
    "inside": np.array([0b11101111], np.uint8),
    "code": np.array([0, 1, 2, 3, 0, 0, 1], np.uint8),
}  # fmt: skip
ANSWERS = (
    b'# maps 01234567\nclass,group,answer\ncat,1,not\ncat,2,both\ncat,2a,object\n"dog",size,small\n'
)
LOG = b'{"step": 1, "loss": 0.5, "lr": 1e-3}\n{"step": 2, "loss": NaN}\n'

READERS = {
    "list.txt": Reader(text(b"a\nJPEGImages/b.jpg SegmentationClass/b.png\nc -1\n"), read_list),
    "folder.txt": Reader(text(b"a\nb\n"), check_folder),
    "classes.txt": Reader(text(b"background\ncat\ntraffic light\n"), read_classes),
    "index.txt": Reader(text(b"x.jpg 0\ny.jpg 1\n"), read_numbers),
    "tags.csv": Reader(text(b'id,tags\na,cat,"dog"\nb.jpg,dog;cat\n'), tags(from_text)),
    "tags.txt": Reader(text(b"a dog\nb cat dog\n"), tags(from_text)),
    "table.csv": Reader(text(*TABLES), read_rows),
    "records.json": Reader(partial(odd_json, tree=RECORDS), read_records),
    "tasks.json": Reader(partial(odd_json, tree=TASKS), read_records),
    "cvat.xml": Reader(text(CVAT), read_export),
    "answers.csv": Reader(text(ANSWERS), lambda path: read_answers(path, CLASSES)),
    "groups.npz": Reader(partial(odd_npz, arrays=GROUPS), open_groups),
    "tags.xml": Reader(text(XML), lambda path: from_xml(path, CLASSES)),
    "tags.json": Reader(partial(odd_json, tree=INSTANCES), tags(from_instances)),
    "masks.json": Reader(partial(odd_json, tree=INSTANCES), draw_masks),
    "drawn.xml": Reader(text((EXPORT / "cvat.xml").read_bytes()), draw_masks),
    "drawn.json": Reader(text((EXPORT / "labelstudio.json").read_bytes()), draw_masks),
    "image.png": Reader(odd_png, read_pictures),
    "image.tif": Reader(lambda rng: damage(rng, tiff(rng)), read_tiff),
    "bands.json": Reader(partial(odd_json, tree=BANDS), read_bands),
    "label.png": Reader(odd_png, read_mask),
    "saliency.png": Reader(odd_png, read_saliency),
    "saliency.npy": Reader(lambda rng: damage(rng, npy(rng, np.eye(3) / 2)), read_saliency),
    "sbd.mat": Reader(make_mat, open_mat),
    "score.npz": Reader(partial(odd_npz, arrays=SCORE), open_score),
    "cue.npz": Reader(partial(odd_npz, arrays=PACKED), open_cues),
    "cells.npz": Reader(partial(odd_npz, arrays=CELLS), open_folder),
    "cue.pickle": Reader(make_pickle, open_pickle),
    "last.pt": Reader(make_checkpoint, restore_checkpoint),
    "model.safetensors": Reader(make_safetensors, restore_safetensors),
    "weights.pth": Reader(make_weights, load_weights),
    "net.caffemodel": Reader(make_caffemodel, read_state),
    "log.jsonl": Reader(text(LOG), read_log),
}
"""File name -> how it is made and read."""
