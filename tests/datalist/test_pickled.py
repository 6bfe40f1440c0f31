import gzip
import os
import pickle

import numpy as np
import pytest

from base import UserError
from datalist.cue import CueFile
from datalist.pickled import read_arrays
from datalist.spec import VOC, resolve

CUES = {
    "0_labels": np.array([2], np.int64),
    "0_cues": np.array([[0, 2, 2], [0, 1, 3], [4, 1, 0]], np.int64),
    "1_labels": np.array([1], np.int64),
    "1_cues": np.array([[1], [2], [2]], np.int64),
}


def test_official_file(reference, tmp_path, monkeypatch):
    arrays = {}

    def reading_once(path):
        arrays.update(read_arrays(path))
        return arrays

    monkeypatch.setattr("datalist.pickled.read_arrays", reading_once)
    cues = CueFile.open(reference / "localization_cues.pickle.gz")
    assert (len(cues), cues.num_classes, cues.grid) == (10582, len(VOC), (41, 41))
    (tmp_path / "JPEGImages").mkdir()
    assert set(cues.ids) == set(resolve("voc", tmp_path).ids("train"))
    background = (cues.cell < 41 * 41).sum()
    cells = len(cues) * 41 * 41
    assert round(100 * background / cells, 1) == 9.8
    assert round(100 * (len(cues.cell) - background) / cells, 1) == 14.2
    image = np.repeat(np.arange(len(cues)), np.diff(cues.offset))
    position = image * 41 * 41 + cues.cell % (41 * 41)
    assert np.bincount(position).max() == 1  # no cell has two classes
    # The first entries of the list that comes with the file.
    for row, name in enumerate(["2008_007028", "2009_000233", "2008_002997"]):
        expected = {tuple(cell) for cell in arrays[f"{row}_cues"].T.tolist()}
        assert {tuple(cell) for cell in np.argwhere(cues[name]).tolist()} == expected
        classes = np.flatnonzero(cues[name].any(axis=(1, 2)))
        assert set(classes) - {0} == set(arrays[f"{row}_labels"])


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", ">i2", "i4", ">i8", "i8", "u8"])
@pytest.mark.parametrize("packed", [False, True])
def test_every_protocol(tmp_path, protocol, kind, packed):
    content = {key: np.asfortranarray(value.astype(kind)) for key, value in CUES.items()}
    data = pickle.dumps(content, protocol)
    path = tmp_path / "cue.pickle"
    path.write_bytes(gzip.compress(data) if packed else data)
    arrays = read_arrays(path)
    assert arrays.keys() == CUES.keys()
    assert all(np.array_equal(arrays[key], CUES[key]) for key in CUES)


def test_python_2(tmp_path):
    # What cPickle of Python 2 writes for {'0_cues': array([[0], [1], [2]], '<i8')}, by hand.
    data = (
        b"\x80\x02}q\x01U\x060_cuesq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\n"
        b"ndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05(K\x01K\x03K\x01\x86cnumpy\ndtype\nq\x06U\x02i8"
        b"K\x00K\x01\x87Rq\x07(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U\x18" + bytes([0] * 8 + [1] + [0] * 7 + [2] + [0] * 7) + b"tbs."
    )
    (tmp_path / "cue.pickle").write_bytes(data)
    assert read_arrays(tmp_path / "cue.pickle")["0_cues"].tolist() == [[0], [1], [2]]


def test_keys_are_names_or_numbers(tmp_path):
    path, index = tmp_path / "cue.pickle", tmp_path / "index.txt"
    path.write_bytes(pickle.dumps(CUES, 2))
    index.write_text("x.jpg 1\ny.jpg 0\n")
    cues = CueFile.open(path, index=index)
    assert (set(cues.ids), cues.num_classes, cues.grid) == ({"x", "y"}, 3, (5, 5))
    assert np.argwhere(cues["x"]).tolist() == [[1, 2, 2]]
    assert CueFile.open(path, 6, index)["y"].shape == (6, 5, 5)
    with pytest.raises(UserError, match="lies outside 2 classes"):
        CueFile.open(path, num_classes=2, index=index)
    index.write_text("x.jpg 1\n")
    with pytest.raises(UserError, match=r"cues number 0, which .*index\.txt does not list"):
        CueFile.open(path, index=index)
    index.write_text("../x.jpg 1\n")
    with pytest.raises(UserError, match="is not an image id"):
        CueFile.open(path, index=index)
    path.write_bytes(pickle.dumps({"2008_1_cues": CUES["0_cues"]}, 2))
    assert CueFile.open(path).ids == ("2008_1",)
    path.write_bytes(pickle.dumps({"../x_cues": CUES["0_cues"]}, 2))
    with pytest.raises(UserError, match="is not an image id"):
        CueFile.open(path)


class Runs:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def hostile(mark):
    array = np.array([1])
    return {
        "system": {"a": Runs(os.system, f"touch {mark}")},
        "eval": {"a": Runs(eval, f"open({str(mark)!r}, 'w')")},
        "in a key": {Runs(os.system, f"touch {mark}"): array},
        "getattr": {"a": Runs(getattr, "x", "upper")},
        "load": {"a": Runs(np.load, str(mark))},
        "another array": {"a": np.float32(1)},
        "objects": {"a": np.array([None, Runs(os.system, f"touch {mark}")], object)},
        "floats": {"a": np.array([1.5])},
        "record": {"a": np.zeros(2, [("x", "i4")])},
        "list": {"a": [1, 2]},
        "number": {"a": 1},
        "nested": {"a": {"b": array}},
        "tuple": (array,),
        "only an array": array,
        "set": {1, 2},
        "class": Runs,
    }


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("case", hostile(""))
def test_anything_else_is_refused(tmp_path, protocol, case):
    mark = tmp_path / "mark"
    path = tmp_path / "cue.pickle"
    path.write_bytes(pickle.dumps(hostile(mark)[case], protocol))
    with pytest.raises(UserError) as caught:
        read_arrays(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    assert not mark.exists()


def test_the_refusal_names_what_it_found(tmp_path):
    path = tmp_path / "cue.pickle"
    path.write_bytes(pickle.dumps(hostile("x")["system"], 2))
    with pytest.raises(UserError, match=r"is refused: it names '(posix|nt)\.system', and a cue"):
        read_arrays(path)


def raw(part):
    return b"\x80\x02" + part + b"."


SENSELESS = (
    *(b"r\xff\xff\xff\x7f", b"h\x07", b"t", b"s", b"R", b"b", b"\x93", b"}(K\x01u", b"}K\x01b"),
    *(b"X\xff\xff\xff\x7fabc", b"\x8b\xff\xff\xff\x7f1", b"cnumpy\nndarray\n)R"),
    *(b"U\x0breconstruct)R", b"cnumpy\ndtype\nU\x02O8\x85R"),
    *(b"cnumpy\ndtype\nU\x02i8\x85R(K\x03U\x01!tb", b"(" * 100_000, b")" + b"\x85" * 100_000),
)


@pytest.mark.parametrize("data", [*map(raw, SENSELESS), b"", b"\x80", b"."])
def test_machine_code_that_makes_no_sense(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(UserError):
        read_arrays(tmp_path / "a")


def test_memo_number_two_milliards(tmp_path):
    (tmp_path / "a").write_bytes(raw(b"}r\xff\xff\xff\x7f"))
    assert read_arrays(tmp_path / "a") == {}


def test_array_whose_shape_is_not_its_data(tmp_path):
    data = pickle.dumps({"a": np.arange(3)}, 2)
    position = data.index(b"K\x03\x85")
    (tmp_path / "a").write_bytes(data[: position + 1] + b"\xff" + data[position + 2 :])
    with pytest.raises(UserError, match="not a readable cue pickle"):
        read_arrays(tmp_path / "a")


def test_small_file_that_swells(tmp_path):
    (tmp_path / "a").write_bytes(gzip.compress(bytes(100 << 20)))
    with pytest.raises(UserError, match="unpacks to more than 64 MiB"):
        read_arrays(tmp_path / "a")
