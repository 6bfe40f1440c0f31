import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base import UserError
from datalist.palette import palette
from datalist.spec import COCO, VOC, read_classes, read_ids, resolve, safe_id


def test_classes_of_the_benchmarks():
    assert len(VOC) == 21 and len(set(VOC)) == 21 and VOC[0] == "background"
    assert len(COCO) == 81 and len(set(COCO)) == 81 and COCO[0] == "background"
    # The alphabetical order of VOC and the category order of COCO decide what an index means.
    assert list(VOC[1:]) == sorted(VOC[1:])
    assert (COCO[1], COCO[10], COCO[80]) == ("person", "traffic light", "toothbrush")


def test_palette_bit_by_bit():
    colours = palette(256)
    for index in range(256):
        colour = [0, 0, 0]
        rest = index
        for bit in range(7, -1, -1):
            for channel in range(3):
                colour[channel] |= (rest & 1) << bit
                rest >>= 1
        assert colours[index].tolist() == colour
    assert len({tuple(colour) for colour in colours.tolist()}) == 256
    # As printed in the VOC development kit's documentation.
    assert colours[1].tolist() == [128, 0, 0] and colours[15].tolist() == [192, 128, 128]
    assert colours[255].tolist() == [224, 224, 192]


@pytest.mark.parametrize("count", [0, 257])
def test_palette_refuses(count):
    with pytest.raises(ValueError, match="256"):
        palette(count)


def test_voc_lists(tmp_path):
    (tmp_path / "VOCdevkit/VOC2012/JPEGImages").mkdir(parents=True)
    spec = resolve("voc", tmp_path)
    counts = {split: len(spec.ids(split)) for split in spec.lists}
    expected = {"train": 10582, "train_aug": 10582, "train_voc": 1464, "val": 1449, "test": 1456}
    assert counts == expected
    assert not set(spec.ids("train")) & set(spec.ids("val"))
    assert set(spec.ids("train_voc")) <= set(spec.ids("train"))
    assert spec.mask == "SegmentationClass"
    (spec.root / "SegmentationClassAug").mkdir()
    assert resolve("voc", tmp_path).mask == "SegmentationClassAug"


def test_coco_lists(tmp_path):
    (tmp_path / "train2014").mkdir()
    (tmp_path / "val2014").mkdir()
    spec = resolve("coco", tmp_path)
    assert (spec.num_classes, len(spec.ids("train")), len(spec.ids("val"))) == (81, 82081, 40137)
    name = spec.ids("val")[0]
    (tmp_path / "val2014" / f"{name}.jpg").touch()
    assert spec.image_path(name) == tmp_path / "val2014" / f"{name}.jpg"


def test_folder(folder):
    spec = resolve(str(folder))
    assert (spec.name, spec.num_classes, spec.ids("val")) == ("own", 4, ["e", "f"])
    assert spec.image_path("a") == folder / "JPEGImages/a.jpg"
    assert spec.mask_path("a") == folder / "SegmentationClass/a.png"
    with pytest.raises(UserError, match="no split 'test'; its splits are: train, val"):
        spec.ids("test")
    with pytest.raises(UserError, match="image 'z' is in a list"):
        spec.image_path("z")


@pytest.mark.parametrize("gone", ["folder JPEGImages", "classes.txt", "ImageSets/Segmentation"])
def test_folder_lacks_a_part(folder, gone):
    (folder / gone.removeprefix("folder ")).rename(folder / "elsewhere")
    with pytest.raises(UserError, match=f"no {gone}"):
        resolve(str(folder))


@pytest.mark.parametrize("dataset", ["voc", "coco"])
def test_benchmark_is_not_there(tmp_path, dataset):
    with pytest.raises(UserError, match="needed"):
        resolve(dataset, tmp_path)


def test_no_such_data_set(tmp_path, folder):
    with pytest.raises(UserError, match="is not a data set"):
        resolve(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="folder already"):
        resolve(str(folder), tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_lists_of_others(tmp_path, packed):
    text = (
        "\ufeff/JPEGImages/2007_1.jpg /SegmentationClassAug/2007_1.png\r\n"
        "JPEGImages/b.v2.JPG\n\nc 17\nd  -1\r\ne.png\n"
    )
    path = tmp_path / "list.txt"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert read_ids(path) == ["2007_1", "b.v2", "c", "d", "e"]


OUTSIDE = "../../etc/passwd /etc/passwd a/b a\\b .. . .hidden a\0b c:x JPEGImages/../a.jpg"


@pytest.mark.parametrize("line", [*OUTSIDE.split(), "JPEGImages/.jpg", "a" * 300])
def test_ids_stay_in_their_folder(tmp_path, line):
    path = tmp_path / "list.txt"
    path.write_text(f"fine\n{line}\n")
    with pytest.raises(UserError, match=r"list\.txt, line 2: .* is not an image id"):
        read_ids(path)


@pytest.mark.parametrize(
    ("read", "text", "match"),
    [
        (read_ids, "", "holds no ids"),
        (read_ids, "\n \n", "holds no ids"),
        (read_ids, "a\nb\na\n", "line 3: id 'a' was already on line 1"),
        (read_ids, "my photo\n", "ids hold no spaces"),
        (read_classes, "cat\ndog\n", "must begin with 'background'"),
        (read_classes, "background\n", "holds 1 names"),
        (read_classes, "background\ncat\nCat\n", "twice"),
        (read_classes, "background\na,b\n", "is not a class name"),
        (read_classes, "background\n" + "\n".join(map(str, range(255))), "holds 256 names"),
    ],
)
def test_lists_that_cannot_be(tmp_path, read, text, match):
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=match):
        read(path)


def test_list_that_swells(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(gzip.compress(bytes(80 << 20)))
    with pytest.raises(UserError, match="is longer than"):
        read_ids(path)


@given(name=st.text(max_size=20))
def test_safe_ids_are_children(tmp_path_factory, name):
    root = tmp_path_factory.getbasetemp()
    try:
        safe_id(name)
    except UserError:
        return
    assert (root / name).resolve().parent == root.resolve()
