import io
import os
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from base import UserError
from base.file import replacing
from datalist.archive import read_npz
from datalist.cell import resize, resolve_conflicts
from datalist.cue import CueFile, from_cells, main
from datalist.image import write_mask

SHAPES = st.tuples(st.integers(2, 5), st.integers(1, 6), st.integers(1, 7))
CUES = SHAPES.flatmap(lambda shape: arrays(bool, shape))


def example(seed=0, shape=(4, 5, 6)):
    rng = np.random.default_rng(seed)
    return {name: rng.random(shape) < 0.2 for name in ("a", "b c", "ü")}


def write_raw(path, **changed):
    """A packed file by hand, for contents that the writer would not write."""
    content = {
        "ids": np.array(["a", "b"]),
        "grid": np.array([5, 6]),
        "num_classes": np.array(4),
        "offset": np.array([0, 2, 3]),
        "cell": np.array([0, 119, 7]),
    }
    np.savez_compressed(path, **{**content, **changed})
    return path


def test_round_trip(tmp_path):
    cues = example()
    cues["none"] = np.zeros((4, 5, 6), bool)
    cues["all"] = np.ones((4, 5, 6), bool)
    CueFile.collect(cues).write(tmp_path / "cue.npz")
    opened = CueFile.open(tmp_path / "cue.npz", num_classes=4)
    assert (opened.grid, opened.num_classes, len(opened)) == ((5, 6), 4, 5)
    assert set(opened.ids) == set(cues) and "a" in opened and "z" not in opened
    for name, cue in opened.items():
        assert cue.dtype == bool and np.array_equal(cue, cues[name])
    with pytest.raises(UserError, match="has no cue of image 'z'"):
        opened["z"]
    with pytest.raises(UserError, match="holds cues of 4 classes, but the data set has 21"):
        CueFile.open(tmp_path / "cue.npz", num_classes=21)


def test_a_sample_may_be_changed(tmp_path):
    cues = CueFile.collect(example()).write(tmp_path / "cue.npz")
    cues["a"][:] = True
    assert not cues["a"].all()


def test_writing_is_all_or_nothing(tmp_path):
    path = tmp_path / "cue.npz"
    CueFile.collect(example()).write(path)
    before = path.read_bytes()

    def broken():
        yield "a", np.zeros((4, 5, 6), bool)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        CueFile.collect(broken()).write(path)
    with pytest.raises(RuntimeError), replacing(path) as part:
        part.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["cue.npz"]


@pytest.mark.parametrize(
    ("cues", "match"),
    [
        ([], "holds no cues"),
        ([("a", np.zeros((2, 3, 3), bool)), ("b", np.zeros((2, 3, 4), bool))], "has shape"),
        ([("a", np.zeros((2, 3, 3), np.uint8))], "not a bool array"),
        ([("../a", np.zeros((2, 3, 3), bool))], "is not an image id"),
        ([("a", np.zeros((2, 3, 3), bool))] * 2, "an id comes twice"),
    ],
)
def test_cues_that_cannot_be(tmp_path, cues, match):
    with pytest.raises(UserError, match=match):
        CueFile.collect(cues).write(tmp_path / "cue.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"offset": np.array([0, 3, 2])}, "offsets do not fit"),
        ({"offset": np.array([0, 4, 3])}, "offsets do not ascend"),
        ({"offset": np.array([0, -1, 3])}, "offsets do not ascend"),
        ({"offset": np.array([0, 2**64 - 1, 3], np.uint64)}, "offsets do not ascend"),
        ({"offset": np.array([1, 2, 3])}, "offsets do not fit"),
        ({"offset": np.array([0, 3])}, "offsets do not fit"),
        ({"offset": np.zeros(0, int)}, "offsets do not fit"),
        ({"cell": np.array([0, 120, 7])}, "outside its grid"),
        ({"cell": np.array([0, -1, 7])}, "outside its grid"),
        ({"cell": np.array([0.0, 1.0, 7.0])}, "damaged array"),
        ({"cell": np.array([[0, 1, 7]])}, "damaged array"),
        ({"cell": np.array([None, 1, 7])}, "damaged array"),
        ({"ids": np.array(["a", "a"])}, "an id comes twice"),
        ({"ids": np.array(["a", "../b"])}, "is not an image id"),
        ({"ids": np.array(["a", "b"], object)}, "damaged array"),
        ({"ids": np.array([1, 2])}, "damaged array"),
        ({"grid": np.array([0, 6])}, "4 classes on 0 x 6"),
        ({"grid": np.array([-5, -6])}, "4 classes on -5 x -6"),
        ({"grid": np.array([5, 6, 1])}, "its grid is"),
        ({"grid": np.array([1 << 40, 1 << 40])}, "too large"),
        ({"grid": np.array([1 << 63, 6], np.uint64)}, "too large"),
        ({"num_classes": np.array(1)}, "1 classes"),
        ({"num_classes": np.array(1 << 50)}, "classes on"),
    ],
)
def test_hostile_contents(tmp_path, changed, match):
    with pytest.raises(UserError, match=match):
        CueFile.open(write_raw(tmp_path / "cue.npz", **changed))


def header(shape, kind="<i4"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": kind, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 62,), (10**30,), (-1,)])
def test_array_that_claims_to_be_long(tmp_path, shape):
    path = tmp_path / "cue.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cell.npy", header(shape) + bytes(100))
    with pytest.raises(UserError, match="damaged array"):
        read_npz(path, {"cell": ("i", 1)})


def test_small_file_that_swells(tmp_path):
    path = tmp_path / "cue.npz"
    length = 200 << 20
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("cell.npy", "w") as file,
    ):
        file.write(header((length // 4,)))
        for _ in range(length >> 20):
            file.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(UserError, match="unpacks to more than 64 MiB"):
        read_npz(path, {"cell": ("i", 1)})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_other_files(tmp_path):
    for name, data, match in [
        ("a", b"", "neither a packed cue file nor a pickle"),
        ("b", b"PK\x03\x04 and then nothing", "damaged or not an .npz"),
        ("c", b"\x1f\x8bnothing", "damaged gzip"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=match):
            CueFile.open(tmp_path / name)
    with pytest.raises(UserError, match=r"cannot read cues .*: No such file"):
        CueFile.open(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no cues: neither"):
        CueFile.open(tmp_path / "empty")


def test_folder_of_npz(tmp_path):
    cues = example()
    for name, cue in cues.items():
        cell = np.stack(np.nonzero(cue)).astype(np.int16)
        np.savez_compressed(
            tmp_path / f"{name}.npz", cue=cell, grid=np.array([5, 6]), num_classes=4
        )
    packed = CueFile.open(tmp_path, 4).write(tmp_path / "all" / "cue.npz")
    for opened in (packed, CueFile.open(tmp_path, 4), CueFile.open(tmp_path / "all/cue.npz")):
        assert all(np.array_equal(opened[name], cue) for name, cue in cues.items())
    np.savez(
        tmp_path / "z.npz", cue=np.zeros((3, 0), np.int16), grid=np.array([5, 7]), num_classes=4
    )
    with pytest.raises(UserError, match="has another grid"):
        CueFile.open(tmp_path, 4)


def test_folder_of_masks(tmp_path):
    write_mask(tmp_path / "a.png", np.array([[0, 255], [2, 255], [255, 1]], np.uint8))
    cues = CueFile.open(tmp_path)
    assert (cues.num_classes, cues.grid) == (3, (3, 2))
    assert np.argwhere(cues["a"]).tolist() == [[0, 0, 0], [1, 2, 1], [2, 1, 0]]
    with pytest.raises(UserError, match="lies outside 2 classes"):
        CueFile.open(tmp_path, 2)


def test_cells():
    cues = from_cells({"a": np.array([[1, 0], [2, 0], [0, 1]])}, (3, 2), 2, "x")
    assert np.argwhere(cues["a"]).tolist() == [[0, 0, 1], [1, 2, 0]]
    for wrong in ([[2], [0], [0]], [[0], [3], [0]], [[0], [0], [2]], [[0], [0], [-1]], [[0], [0]]):
        with pytest.raises(UserError, match=r"x: .*'a'"):
            from_cells({"a": np.array(wrong)}, (3, 2), 2, "x")


def slow_conflicts(cue):
    classes, height, width = cue.shape
    area = [int(cue[k].sum()) for k in range(classes)]
    out = np.zeros_like(cue)
    for row in range(height):
        for column in range(width):
            claim = [k for k in range(classes) if cue[k, row, column]]
            if claim:
                smallest = min(area[k] for k in claim)
                best = [k for k in claim if area[k] == smallest]
                winner = next((k for k in best if k > 0), 0)
                out[winner, row, column] = True
    return out


@given(cue=CUES)
def test_conflicts_cell_by_cell(cue):
    before = cue.copy()
    resolved = resolve_conflicts(cue)
    assert np.array_equal(cue, before)
    assert np.array_equal(resolved, slow_conflicts(cue))
    assert np.array_equal(resolved.any(axis=0), cue.any(axis=0))
    assert np.array_equal(resolve_conflicts(resolved), resolved)


def slow_resize(cue, grid):
    out = np.zeros((len(cue), *grid), bool)
    for row in range(grid[0]):
        for column in range(grid[1]):
            y = int((row + 0.5) / grid[0] * cue.shape[1])
            x = int((column + 0.5) / grid[1] * cue.shape[2])
            out[:, row, column] = cue[:, y, x]
    return out


@given(cue=CUES, grid=st.tuples(st.sampled_from([1, 2, 4, 8, 16]), st.sampled_from([1, 4, 32])))
def test_resize_cell_by_cell(cue, grid):
    assert np.array_equal(resize(cue, grid), slow_resize(cue, grid))
    assert np.array_equal(resize(cue, cue.shape[1:]), cue)
    doubled = resize(cue, (2 * cue.shape[1], 2 * cue.shape[2]))
    assert np.array_equal(resize(doubled, cue.shape[1:]), cue)
    flipped = resize(cue[:, :, ::-1], doubled.shape[1:])
    assert np.array_equal(flipped, doubled[:, :, ::-1])


def test_commands(tmp_path, capsys):
    first, second = example(1), example(2)
    del second["a"]
    CueFile.collect(first).write(tmp_path / "1.npz")
    CueFile.collect(second).write(tmp_path / "2.npz")
    main(["merge", *(str(tmp_path / name) for name in ("1.npz", "2.npz", "3.npz"))])
    merged = CueFile.open(tmp_path / "3.npz")
    assert set(merged.ids) == set(first)
    assert np.array_equal(merged["a"], resolve_conflicts(first["a"]))
    assert np.array_equal(merged["ü"], resolve_conflicts(first["ü"] | second["ü"]))
    main(["merge", *(str(tmp_path / name) for name in ("1.npz", "2.npz", "o.npz")), "--overlap"])
    kept = CueFile.open(tmp_path / "o.npz")["ü"]
    assert np.array_equal(kept, first["ü"] | second["ü"]) and kept.sum(0).max() > 1
    main(["show", str(tmp_path / "3.npz")])
    assert "3 images, 4 classes, grid 5 x 6" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"error: .*has no array"):
        np.savez(tmp_path / "4.npz", a=1)
        main(["convert", str(tmp_path / "4.npz"), str(tmp_path / "5.npz")])
    assert not (tmp_path / "5.npz").exists()
    CueFile.collect(example(1, (4, 7, 7))).write(tmp_path / "6.npz")
    with pytest.raises(SystemExit, match="do not fit each other"):
        main(["merge", *(str(tmp_path / name) for name in ("1.npz", "6.npz", "7.npz"))])
