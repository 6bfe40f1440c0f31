"""Files come back as they were written, are whole or not there, and lie about nothing."""

import pickle
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from base import UserError
from datalist.image import read_mask, write_mask
from datalist.palette import palette
from utils import output

COLOURS = palette(256)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_label_round_trip(tmp_path_factory, label):
    path = tmp_path_factory.getbasetemp() / "label" / "a.png"
    write_mask(path, label)
    assert (read_mask(path) == label).all()
    with Image.open(path) as picture:
        assert picture.mode == "P"
        assert (np.asarray(picture.convert("RGB")) == COLOURS[label]).all()
    assert output.is_whole(path)


@given(
    hnp.arrays(np.float32, (3, 4, 5), elements=st.floats(0, 1, width=32)),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
def test_score_round_trip(tmp_path_factory, score, size):
    path = tmp_path_factory.getbasetemp() / "score" / "a.npz"
    output.write_score(path, score, [0, 2, 7], size)
    found = output.read_score(path)
    kept = np.rint(score * 255).any((1, 2))
    assert found.size == size
    assert found.keys.tolist() == np.array([0, 2, 7])[kept].tolist()
    assert output.read_keys(path).tolist() == found.keys.tolist()
    assert np.abs(found.score / 255 - score[kept]).max(initial=0) <= 0.5 / 255 + 1e-6
    assert output.upsample(found.score, size).shape == (kept.sum(), *size)


def test_bytes_are_stored_as_they_are(tmp_path):
    score = np.array([[[0, 7]], [[0, 0]], [[255, 128]]], np.uint8)
    output.write_score(tmp_path / "a.npz", score, [1, 2, 3], (1, 2))
    found = output.read_score(tmp_path / "a.npz")
    assert (found.score == score[[0, 2]]).all() and found.keys.tolist() == [1, 3]


def test_upsampling_is_bilinear_between_pixel_centres():
    ramp = np.array([[[0, 100]]], np.uint8)
    assert output.upsample(ramp, (1, 4))[0, 0] == pytest.approx([0, 25, 75, 100])
    same = output.upsample(ramp, (1, 2))
    assert same.dtype == np.float32 and (same == ramp).all()


def test_cue_round_trip(tmp_path):
    cue = np.array([[0, 3, 3], [0, 1, 4], [6, 5, 2]])
    output.write_cue(tmp_path / "a.npz", cue, (5, 7), 9)
    found = np.load(tmp_path / "a.npz")
    assert found["cue"].dtype == np.int16 and (found["cue"] == cue).all()
    assert (found["grid"].tolist(), found["num_classes"]) == ([5, 7], 9)
    output.write_cue(tmp_path / "none.npz", np.zeros((3, 0), int), (5, 7), 9)
    assert np.load(tmp_path / "none.npz")["cue"].shape == (3, 0)
    with pytest.raises(UserError, match="outside its grid of 5 x 6"):
        output.write_cue(tmp_path / "b.npz", cue, (5, 6), 9)
    assert not (tmp_path / "b.npz").exists()


def test_overlay_shows_image_prediction_truth(tmp_path):
    image = np.full((40, 30, 3), 90, np.uint8)
    label = np.zeros((40, 30), np.uint8)
    label[:20] = 15
    truth = np.full((40, 30), 255, np.uint8)
    output.write_overlay(tmp_path / "a.jpg", image, label, truth)
    assert output.is_whole(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as picture:
        strip = np.asarray(picture).astype(int)
    gap = (strip.shape[1] - 90) // 2
    assert np.abs(strip[10, 10] - 90).max() < 12
    expected = 0.4 * 90 + 0.6 * COLOURS[15]
    assert np.abs(strip[10, 30 + gap + 15] - expected).max() < 12
    assert np.abs(strip[30, 30 + gap + 15] - 90).max() < 12  # background stays clear
    assert strip[30, 60 + 2 * gap + 15].min() > 170  # ignore turns white


def test_blend_refuses_another_size():
    with pytest.raises(UserError, match="differ in size"):
        output.blend(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8))


def test_whole_means_to_the_last_byte(tmp_path):
    kinds = ("label", "score", "overlay")
    label, score, overlay = (output.output_path(tmp_path, kind, "a") for kind in kinds)
    write_mask(label, np.zeros((50, 50)))
    output.write_score(score, np.ones((1, 9, 9)), [1], (9, 9))
    output.write_overlay(overlay, np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), int))
    for path in (label, score, overlay):
        assert output.is_whole(path)
        data = path.read_bytes()
        for length in (0, 5, len(data) // 2, len(data) - 1):
            path.write_bytes(data[:length])
            assert not output.is_whole(path)
        path.unlink()
        assert not output.is_whole(path)


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.png"
    write_mask(path, np.ones((3, 3)))
    for score, keys in (
        (np.full((1, 2, 2), np.nan), [1]),
        (np.full((1, 2, 2), 1.5), [1]),
        (np.ones((2, 2, 2)), [2, 1]),
        (np.ones((2, 2, 2)), [1]),
        (np.ones((1, 2, 2)), [-1]),
    ):
        with pytest.raises(UserError):
            output.write_score(tmp_path / "a.npz", score, keys, (2, 2))
    assert (read_mask(path) == 1).all()
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_readers_never_see_half_a_file(tmp_path):
    path = tmp_path / "a.png"
    write_mask(path, np.zeros((200, 200)))
    done = threading.Event()

    def write():
        for value in range(60):
            write_mask(path, np.full((200, 200), value))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert len(np.unique(read_mask(path))) == 1
    writer.join()


@pytest.mark.parametrize("name", ["../a", "a/b", "/etc/a", "", "..", "a\\b", "a\0"])
def test_ids_do_not_leave_their_folder(tmp_path, name):
    with pytest.raises(UserError):
        output.output_path(tmp_path, "label", name)


def test_damaged_and_hostile_files_are_refused_in_a_sentence(tmp_path):
    npz = tmp_path / "a.npz"
    for data in (b"", b"PK\3\4 nonsense", pickle.dumps([1])):
        npz.write_bytes(data)
        with pytest.raises(UserError, match=r"a\.npz"):
            output.read_score(npz)
    np.savez(npz, score=np.array([object()]), keys=np.array([1]), size=np.array([1, 1]))
    with pytest.raises(UserError, match=r"a\.npz"):
        output.read_score(npz)
    good = {"score": np.ones((1, 2, 2), np.uint8), "keys": np.array([1]), "size": np.array([2, 2])}
    for name, bad in (
        ("score", np.ones((1, 2, 2), np.uint16)),
        ("score", np.ones((2, 2, 2), np.uint8)),
        ("keys", np.array([-1])),
        ("keys", np.array([255])),
        ("size", np.array([10**6, 10**6])),
        ("size", np.array([0, 2])),
        ("size", np.array([2, 2, 2])),
    ):
        np.savez(npz, **(good | {name: bad}))
        with pytest.raises(UserError, match="is not a score file"):
            output.read_score(npz)


@pytest.fixture(scope="module")
def good_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    rng = np.random.default_rng(0)
    output.write_score(folder / "a.npz", rng.random((2, 5, 6)), [1, 3], (9, 11))
    write_mask(folder / "a.png", rng.integers(0, 4, (9, 11)))
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


@given(st.data(), st.sampled_from([".npz", ".png"]))
def test_a_changed_byte_is_refused_or_harmless(tmp_path_factory, good_files, data, suffix):
    content = bytearray(good_files[suffix])
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / f"changed{suffix}"
    path.write_bytes(content)
    try:
        if suffix == ".npz":
            found = output.read_score(path)
            output.upsample(found.score, found.size)
        else:
            assert read_mask(path).dtype == np.uint8
    except UserError as error:
        assert str(path) in str(error)
