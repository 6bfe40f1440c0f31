"""train.py -> test.py -> evaluate.py as a user runs them, at smoke size."""

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from program import run

from datalist.cue import CueFile
from datalist.image import read_image, read_mask


@pytest.fixture(scope="module")
def trained(scenes_root, tmp_path_factory):
    """Cue networks, cues and SEC on a dozen scenes."""
    out = tmp_path_factory.mktemp("chain")
    data = ("--dataset", scenes_root)
    smoke = (*data, "--recipe", "smoke", "--quiet")
    for ground in ("foreground", "background"):
        run("train.py", f"cue-{ground}", *smoke, "--out", out / ground)
        predict = ("--out", out / ground, "--split", "train", "--save", "cue", "--quiet")
        run("test.py", out / ground / "last.pt", *predict)
    merge = ("merge", out / "foreground/cue", out / "background/cue", out / "cue.npz")
    run("-m datalist.cue", *merge)
    run("train.py", "sec", *smoke, "--cue", out / "cue.npz", "--out", out / "sec")
    return out


def test_cues(trained, scenes_root):
    cues = CueFile.open(trained / "cue.npz")
    assert len(cues) == 12 and cues.num_classes == 7
    found = np.stack([cue for _, cue in cues.items()])
    assert found.sum(1).max() == 1 and found[:, 0].any() and found[:, 1:].any()


def test_from_tags_to_miou(trained, scenes_root, tmp_path):
    predict = ("--out", tmp_path, "--crf", "--mirror", "--scales", 1, 0.75, "--quiet")
    run("test.py", trained / "sec/last.pt", *predict, "--save", "label", "score", "overlay")
    for kind in ("label", "score", "overlay"):
        assert len(list((tmp_path / kind).iterdir())) == 4
    done = run("evaluate.py", tmp_path, "--dataset", scenes_root, "--quiet")
    score = json.loads((tmp_path / "score.json").read_text())
    assert done.stdout.splitlines()[-1] == f"miou {score['miou']:.2f}"
    assert 0 <= score["miou"] <= 100 and set(score["iou"]) >= {"background", "starfish"}


def test_two_processes_give_the_same_files(trained, tmp_path):
    for name, processes in (("one", 1), ("two", 2)):
        predict = ("--out", tmp_path / name, "--processes", processes, "--quiet")
        python = "python" if processes == 1 else sys.executable
        run("test.py", trained / "sec/last.pt", *predict, python=python)
    files = sorted((tmp_path / "one/label").iterdir())
    assert len(files) == 4
    for path in files:
        other = tmp_path / "two/label" / path.name
        assert np.array_equal(read_mask(path), read_mask(other))


def test_what_is_whole_is_not_done_again(trained, tmp_path):
    run("test.py", trained / "sec/last.pt", "--out", tmp_path, "--quiet")
    files = sorted((tmp_path / "label").iterdir())
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:40])
    before = {path: path.stat().st_mtime_ns for path in files[2:]}
    run("test.py", trained / "sec/last.pt", "--out", tmp_path, "--quiet")
    assert len(list((tmp_path / "label").iterdir())) == 4
    read_mask(files[0]), read_mask(files[1])
    assert before == {path: path.stat().st_mtime_ns for path in files[2:]}


def test_finished_training_is_left_alone(trained, scenes_root):
    before = (trained / "sec/last.pt").stat().st_mtime_ns
    smoke = ("--dataset", scenes_root, "--recipe", "smoke", "--quiet")
    arguments = (*smoke, "--cue", trained / "cue.npz", "--out", trained / "sec")
    assert "finished" in run("train.py", "sec", *arguments).stdout
    assert (trained / "sec/last.pt").stat().st_mtime_ns == before
    run("train.py", "sec", *arguments, "--lr", 0.5, code=1)


def test_own_photos(trained, scenes_root, tmp_path):
    """No data set is needed: a folder, a file and a glob, overlays with a legend."""
    photo = scenes_root / "JPEGImages/val_00000.jpg"
    glob = scenes_root / "JPEGImages/val_0000[12].jpg"
    images = ("--image", photo, glob)
    done = run("test.py", trained / "sec/last.pt", *images, "--out", tmp_path, "--quiet")
    assert str(tmp_path / "overlay") in done.stdout
    assert {p.stem for p in (tmp_path / "label").iterdir()} == {f"val_0000{n}" for n in range(3)}
    shape = read_image(photo).shape
    overlay = read_image(tmp_path / "overlay/val_00000.jpg")
    assert overlay.shape[0] % shape[0] == 0
    assert overlay.shape[1] > overlay.shape[0] // shape[0] * 2 * shape[1] + 20
    nowhere = ("--image", tmp_path / "nowhere.jpg", "--out", tmp_path / "x", "--quiet")
    assert "nowhere.jpg" in run("test.py", trained / "sec/last.pt", *nowhere, code=1).stderr
    pattern = ("--image", tmp_path / "*.webp", "--out", tmp_path / "x", "--quiet")
    assert "no file matches" in run("test.py", trained / "sec/last.pt", *pattern, code=1).stderr
    trip = tmp_path / "trip [1]"
    trip.mkdir()
    shutil.copy(photo, trip)
    pattern = ("--image", trip / "*.jpg", "--out", tmp_path / "y", "--quiet")
    run("test.py", trained / "sec/last.pt", *pattern)
    assert [path.stem for path in (tmp_path / "y/label").iterdir()] == [photo.stem]


def test_photos_as_cameras_and_people_leave_them(trained, scenes_root, tmp_path):
    """One that cannot be read stops no other; a large one keeps its size; the newest is taken."""
    folder, out = tmp_path / "mine", tmp_path / "out"
    folder.mkdir()
    photo = Image.open(scenes_root / "JPEGImages/val_00000.jpg")
    photo.resize((900, 700)).save(folder / "large.jpg")
    photo.convert("CMYK").save(folder / "print.jpg")
    (folder / "notes.jpg").write_text("not a picture")
    command = ("test.py", trained / "sec/last.pt", "--image", folder, "--out", out, "--quiet")
    error = run(*command, code=1).stderr
    assert "notes.jpg is not a readable image" in error and str(out) in error
    shutil.rmtree(out)
    assert "notes.jpg" in run(*command, "--processes", 2, code=1, python=sys.executable).stderr
    assert {path.stem for path in (out / "overlay").iterdir()} == {"large", "print"}
    assert read_mask(out / "label/large.png").shape == (700, 900)
    assert read_image(out / "overlay/large.jpg").shape[0] == 700  # seen in windows
    run(*command, "--tile", "off", code=1)
    assert read_image(out / "overlay/large.jpg").shape[0] == round(700 * 800 / 900)
    (folder / "notes.jpg").unlink()
    photo.resize((300, 500)).save(folder / "large.jpg")
    done = run(*command[:3], folder / "large.jpg", *command[4:])
    assert done.stdout.split()[-1] == str(out / "overlay/large.jpg")
    assert read_mask(out / "label/large.png").shape == (500, 300)


def test_a_folder_holds_predictions_of_one_kind(trained, tmp_path):
    command = ("test.py", trained / "sec/last.pt", "--out", tmp_path / "val", "--quiet")
    run(*command)
    made = json.loads((tmp_path / "val/predict.json").read_text())
    assert made["settings"]["crf"] is False and "test.py" in made["command"]
    run(*command, "--save", "label", "score", "--batch", 3)
    assert "crf: False -> True" in run(*command, "--crf", code=1).stderr
    other = ("test.py", trained / "foreground/last.pt", *command[2:], "--save", "score")
    assert "network: " in run(*other, code=1).stderr


def test_figure_of_cues_maps_masks_and_truth(trained, scenes_root, tmp_path):
    train = ("--split", "train", "--quiet", "--out")
    run("test.py", trained / "sec/last.pt", *train, tmp_path / "sec")
    run("test.py", trained / "foreground/last.pt", "--save", "score", *train, tmp_path / "cam")
    where = ("--dataset", scenes_root, "--rows", 2)
    columns = [f"cues={trained}/cue.npz", f"CAM={tmp_path}/cam", f"SEC={tmp_path}/sec"]
    run("-m script.study.figure", tmp_path / "a.jpg", *columns, "truth=truth", *where)
    picture = read_image(tmp_path / "a.jpg")
    assert picture.shape == (20 + 204 + 200, 5 * 224 - 4, 3)
    assert min(picture[20:, k * 224 : k * 224 + 220].std() for k in range(5)) > 10
    refused = run("-m script.study.figure", tmp_path / "b.jpg", f"x={tmp_path}", *where, code=1)
    assert "neither label nor score" in refused.stderr


def test_dsrg_from_cues_to_retrained_labels(trained, scenes_root, tmp_path):
    smoke = ("--dataset", scenes_root, "--recipe", "smoke", "--quiet")
    run("train.py", "dsrg", *smoke, "--cue", trained / "cue.npz", "--out", tmp_path / "train")
    predict = ("--scales", 0.75, 1, 1.25, "--crf", "--quiet")
    first, masks = tmp_path / "train/last.pt", tmp_path / "pseudo/label"
    restricted = ("--out", masks.parent, "--split", "train", "--restrict-to-tags")
    run("test.py", first, *predict, *restricted)
    assert len(list(masks.iterdir())) == 12
    start = ("--mask", masks, "--start", first, "--out", tmp_path / "retrain")
    run("train.py", "dsrg-retrain", *smoke, *start)
    run("test.py", tmp_path / "retrain/last.pt", *predict, "--out", tmp_path / "val")
    label = read_mask(next((tmp_path / "val/label").iterdir()))
    assert label.ndim == 2 and label.max() < 7
