"""Masks that come back from annotation tools, and folders built from public originals.

export/labelstudio.json was packed by label-studio-sdk's own brush encoder, export/cvat.xml was
written by datumaro's CVAT exporter; `blob` and `box` are what was drawn.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from own_folder import SIZES, arranged, picture
from PIL import Image
from scipy.io import savemat

from base import UserError
from datalist.image import read_image, read_mask
from datalist.prepare.check import inspect
from datalist.prepare.convert import import_masks
from datalist.prepare.drawn import read_drawings, shape_mask, unpack_brush
from datalist.prepare.originals import camvid, msrc, neu
from datalist.spec import read_ids, resolve
from datalist.tag import read_tags

EXPORT = Path(__file__).with_name("export")
ROOT = Path(__file__).parents[2]
STEEL = ROOT.parent / "shared/data/steel-defects"
CAT, DOG = 1, 3


def blob(height, width):
    row, column = np.mgrid[:height, :width]
    inside = (row - height / 2) ** 2 / (height * 0.3) ** 2
    return inside + (column - width * 0.4) ** 2 / (width * 0.25) ** 2 < 1


def box(mask):
    height, width = mask.shape
    corners = np.array([[0.5, 0.25], [0.95, 0.25], [0.95, 0.75], [0.5, 0.75]]) * (width, height)
    return shape_mask([corners.ravel().tolist()], height, width)


@pytest.fixture
def unmasked(folder):
    shutil.rmtree(folder / "SegmentationClass")
    return folder


def test_label_studio(unmasked):
    spec = resolve(str(unmasked))
    count, notes = import_masks(spec, EXPORT / "labelstudio.json")
    assert count == 3
    assert notes == [
        "1 results of type 'rectanglelabels' are left out",
        "1 tasks without an annotation are left out",
    ]
    for name in "abc":
        height, width = SIZES[name]
        expected = np.where(blob(height, width), CAT, 0)
        expected[height // 2, width // 3] = 0  # a hole of one pixel
        if name == "b":
            expected[box(expected)] = DOG
        assert np.array_equal(read_mask(spec.mask_path(name)), expected)
    assert not spec.mask_path("d").exists()


def test_cvat(unmasked):
    spec = resolve(str(unmasked))
    assert import_masks(spec, EXPORT / "cvat.xml") == (3, [])
    for name in "abc":
        expected = np.where(blob(*SIZES[name]), CAT, 0)
        expected[box(expected)] = DOG  # its z order is higher
        assert np.array_equal(read_mask(spec.mask_path(name)), expected)


def test_names_that_arrange_changed_are_matched(tmp_path):
    """Both ways: the tool names the picture as it was, or as arrange calls it."""
    for number, name in enumerate(("cat/my cat (1).jpg", "dog/ä,b.png")):
        picture(tmp_path / "photos" / name, number, (8, 9 + number))
    spec, _ = arranged(tmp_path / "photos")
    assert sorted(spec.ids("train")) == ["my_cat_(1)", "ä_b"]
    for first, second in (
        ("my cat (1).jpg", "dog/ä,b.png"),
        ("my_cat_(1).jpg", "ä_b.png"),
        ("cat/my cat (1).jpg", "12ab34cd-ä_b.png"),
    ):
        images = [
            {"id": 1, "file_name": first, "height": 8, "width": 9},
            {"id": 2, "file_name": second, "height": 8, "width": 10},
        ]
        square = [[1, 1, 4, 1, 4, 4, 1, 4]]
        annotations = [
            {"image_id": k, "category_id": k, "area": 9, "segmentation": square} for k in (1, 2)
        ]
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (tmp_path / "a.json").write_text(json.dumps(content))
        shutil.rmtree(spec.mask_folder, ignore_errors=True)
        assert import_masks(spec, tmp_path / "a.json") == (2, [])
        assert read_mask(spec.mask_path("ä_b")).sum() == 9 * 2


def test_no_match_is_an_error(unmasked, tmp_path):
    text = (EXPORT / "cvat.xml").read_text()
    for name in "abc":
        text = text.replace(f'name="{name}.jpg"', f'name="other-{name}.jpg"')
    (tmp_path / "other.xml").write_text(text)
    command = [sys.executable, "-m", "datalist.prepare.convert", str(tmp_path / "other.xml")]
    done = subprocess.run([*command, str(unmasked)], capture_output=True, text=True)
    assert done.returncode == 1 and "names none of the pictures" in done.stderr
    assert "'other-a.jpg'" in done.stderr and not (unmasked / "SegmentationClass").exists()


def test_masks_that_do_not_fit(unmasked, tmp_path):
    def refused(match, old, new):
        path = tmp_path / "changed.xml"
        path.write_text((EXPORT / "cvat.xml").read_text().replace(old, new))
        with pytest.raises(UserError, match=match):
            import_masks(resolve(str(unmasked)), path)
        assert not list(unmasked.glob("SegmentationClass/*"))

    b = 'name="b.jpg" width="17" height="31"'
    refused(r"'b.jpg' was drawn on \(31, 18\) pixels", b, b.replace("17", "18"))
    refused("'cow' is not one of the classes", 'label="dog"', 'label="cow"')
    refused("two images that are 'a'", b, 'name="a.jpg" width="30" height="20"')
    dtd = '<!DOCTYPE a [<!ENTITY b "c">]><annotations>'
    refused("declares a document type", "<annotations>", dtd)
    refused("is not readable XML", "</annotations>", "")
    refused("'a.jpg' cannot be drawn", 'rle="158, 9', 'rle="159, 9')
    (tmp_path / "min.json").write_text('[{"image": "a.jpg", "label": []}]')
    with pytest.raises(UserError, match="not as 'JSON-MIN'"):
        read_drawings(tmp_path / "min.json")


def test_brush_data_that_cannot_be():
    packed = json.loads((EXPORT / "labelstudio.json").read_text())[0]["annotations"][0]["result"]
    data = packed[0]["value"]["rle"]
    assert unpack_brush(data, 20, 30).any()
    for wrong in (data[:-9], data[:3], [], [300], [*data[:7], *[255] * 90]):
        with pytest.raises((ValueError, OverflowError)):
            unpack_brush(wrong, 20, 30)
    with pytest.raises(ValueError, match="another size"):
        unpack_brush(data, 30, 21)


def test_msrc(tmp_path):
    """A made-up original: the real ones may not be in this repository."""
    for name in ("Images", "mats", "lists"):
        (tmp_path / name).mkdir()
    image = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "Images/1_1_s.bmp")
    segments = np.ones((30, 40), np.uint8)
    segments[:10, :20], segments[10:, :10], segments[10:, 10:15] = 2, 3, 4
    segments[20:, 30:], segments[0, 39] = 5, 6
    # cow, face, horse, grass, car; the sixth segment has no label: it is void.
    labels = np.array([[4, 11, 5, 2, 12]], np.uint8)
    savemat(tmp_path / "mats/1_1_s_GT.mat", {"newseg": segments, "newlabels": labels})
    (tmp_path / "lists/train.txt").write_text("1_1_s\n")
    folders = [tmp_path / name for name in ("Images", "mats", "lists")]
    msrc(*folders, tmp_path / "out")
    spec = resolve(str(tmp_path / "out"))
    index = [spec.classes.index(name) for name in ("cow", "person", "background", "car")]
    expected = np.choose(segments - 1, [index[0], index[1], 255, 0, index[3], 255])
    assert np.array_equal(read_mask(spec.mask_path("1_1_s")), expected)
    assert read_tags(spec, ["1_1_s"])["1_1_s"] == tuple(sorted(index[:2]))  # of car: 100 pixels
    assert read_image(spec.image_path("1_1_s")).shape == (30, 40, 3)

    msrc(*folders, tmp_path / "all", "all")
    spec = resolve(str(tmp_path / "all"))
    assert spec.num_classes == 23
    index = [spec.classes.index(name) for name in ("cow", "person", "horse", "grass", "car")]
    expected = np.choose(segments - 1, [*index, 255])  # the void is no background
    assert np.array_equal(read_mask(spec.mask_path("1_1_s")), expected)
    assert read_tags(spec, ["1_1_s"])["1_1_s"] == tuple(sorted(index[:3]))
    (tmp_path / "mats/1_1_s_GT.mat").write_bytes(b"nothing")
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(UserError, match="is not a cleaned segmentation"):
        msrc(*folders, tmp_path / "out")
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_camvid(tmp_path):
    """A made-up original: two frames, windows of which the lists name three."""
    for name in ("CamVid/train", "CamVid/trainannot", "CamVid/val", "CamVid/valannot", "lists"):
        (tmp_path / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, frame in (("train", "f_1"), ("val", "f_2")):
        image = Image.fromarray(rng.integers(0, 255, (360, 480, 3), np.uint8))
        image.save(tmp_path / f"CamVid/{split}/{frame}.png")
        label = np.full((360, 480), 3, np.uint8)
        label[:, 170:200], label[200:210, 170:230] = 0, 8
        label[:5, 320:330], label[190:, 330:], label[:, 479] = 5, 9, 11
        Image.fromarray(label).save(tmp_path / f"CamVid/{split}annot/{frame}.png")
    (tmp_path / "lists/train.txt").write_text("f_1_01\nf_1_02\n")
    (tmp_path / "lists/val.txt").write_text("f_2_12\n")
    folders = [tmp_path / name for name in ("CamVid", "lists", "out")]
    camvid(*folders)
    spec = resolve(str(tmp_path / "out"))
    tags = read_tags(spec, ["f_1_01", "f_1_02", "f_2_12"])
    assert list(tags.values()) == [(1,), (), (4,)]  # of tree only 50 pixels in the second
    mask = read_mask(spec.mask_path("f_1_02"))
    assert mask.shape == (180, 160) and (mask[:5, :10] == 255).all() and (mask[:, -1] == 255).all()
    assert not inspect(spec).errors
    (tmp_path / "lists/val.txt").write_text("f_2_30\n")
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(UserError, match="'f_2_30' is not a window"):
        camvid(*folders)
    (tmp_path / "lists/val.txt").write_text("f_3_00\n")
    with pytest.raises(UserError, match=r"has no frame f_3\.png"):
        camvid(*folders)


def test_camvid_all_labels(tmp_path):
    """Each label is a class, and a frame may come whole."""
    for name in ("CamVid/train", "CamVid/trainannot", "lists"):
        (tmp_path / name).mkdir(parents=True)
    image = np.random.default_rng(0).integers(0, 255, (360, 480, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "CamVid/train/f_1.png")
    label = np.repeat(np.arange(12, dtype=np.uint8), 30)[:, None].repeat(480, 1)
    Image.fromarray(label).save(tmp_path / "CamVid/trainannot/f_1.png")
    (tmp_path / "lists/train.txt").write_text("f_1\nf_1_10\n")
    command = ["camvid", *(str(tmp_path / name) for name in ("CamVid", "lists", "out"))]
    subprocess.run(
        [sys.executable, "-m", "datalist.prepare.convert", *command, "--labels", "all"], check=True
    )
    spec = resolve(str(tmp_path / "out"))
    names = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car"]
    names += ["person", "person"]  # pedestrian, bicyclist
    index = np.array([*map(spec.classes.index, names), 255])
    assert np.array_equal(read_mask(spec.mask_path("f_1")), index[label])
    assert np.array_equal(read_mask(spec.mask_path("f_1_10")), index[label][180:, :160])
    assert read_tags(spec, ["f_1"])["f_1"] == tuple(range(1, 11))


def test_neu(tmp_path):
    """A made-up original: an image of each part."""
    for part, number in (("training", "000001"), ("test", "000002")):
        for folder in ("images", "annotations"):
            (tmp_path / "neu" / folder / part).mkdir(parents=True)
        image = np.full((20, 30, 3), 90, np.uint8)
        Image.fromarray(image).save(tmp_path / f"neu/images/{part}/{number}.jpg")
        mask = np.zeros((20, 30), np.uint8)
        mask[:3, :20], mask[5:, :2] = 3, 1
        Image.fromarray(mask).save(tmp_path / f"neu/annotations/{part}/{number}.png")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/train.txt").write_text("steel_000001\n")
    (tmp_path / "lists/val.txt").write_text("steel_test_000002\n")
    folders = [tmp_path / name for name in ("neu", "lists", "out")]
    assert neu(*folders) == (tmp_path / "out", 2)
    spec = resolve(str(tmp_path / "out"))
    # Of the inclusion there are only 30 pixels.
    ids = ["steel_000001", "steel_test_000002"]
    assert read_tags(spec, ids) == dict.fromkeys(ids, (3,))
    original = tmp_path / "neu/images/training/000001.jpg"
    assert spec.image_path("steel_000001").read_bytes() == original.read_bytes()
    count = np.bincount(read_mask(spec.mask_path("steel_000001")).ravel())
    assert (count[1], count[3]) == (30, 60)
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "lists/val.txt").write_text("iron_1\n")
    with pytest.raises(UserError, match="'iron_1' is not an image of NEU_Seg"):
        neu(*folders)


@pytest.mark.skipif(not STEEL.is_dir(), reason="no ../shared/data/steel-defects")
@pytest.mark.parametrize("split", ["train", "val"])
def test_lists_are_those_of_the_shared_folder(split):
    assert resolve(str(STEEL)).ids(split) == read_ids(ROOT / f"datalist/steel-defects/{split}.txt")
