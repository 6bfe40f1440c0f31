"""Numbers of each picture: what they are, and that the table holds every picture once."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import program
import pytest
from PIL import Image
from program import ROOT

from base import UserError
from base.file import write_text
from datalist.image import read_mask
from utils.cover import cover_of, header, read_covers, write_table
from utils.output import output_path

CLASSES = ("background", "cat", "dog")
run = partial(program.run, python=sys.executable)


def table_of(folder):
    with open(folder / "cover.csv", encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def put(folder, image_id, name="a.jpg", classes=CLASSES, label=None):
    label = np.zeros((2, 4), np.uint8) if label is None else label
    cover = cover_of(label, label, classes, name, 0.87654, 0.25)
    write_text(output_path(folder, "cover", image_id), json.dumps(cover) + "\n")


def test_numbers_of_a_picture():
    label = np.zeros((4, 5), np.uint8)
    label[0, 0] = label[1, 1] = label[3, 4] = 2  # the first two touch at a corner
    cover = cover_of(label.repeat(2, 0), label, CLASSES, "a b.jpg", 0.87654, 0.25)
    assert cover == {
        "name": "a b.jpg", "width": 5, "height": 8, "confidence": 0.8765, "difference": 0.25,
        "percent": {"background": 85.0, "cat": 0.0, "dog": 15.0}, "parts": {"cat": 0, "dog": 2},
    }  # fmt: skip


def test_table_opens_in_spreadsheets_and_holds_no_formula(tmp_path):
    classes = ("background", "=1+2", 'Käfer, "rot"')
    for name in ("=cmd()", "+1", "-1", "@x", "plain, ä.jpg"):
        put(tmp_path, f"id{len(name)}{ord(name[0])}", name, classes)
    path = write_table(tmp_path)
    assert path == tmp_path / "cover.csv"
    assert path.read_bytes().startswith(b"\xef\xbb\xbfname,id,background %,'=1+2 %,")
    rows = table_of(tmp_path)
    assert {row["name"] for row in rows} == {"'=cmd()", "'+1", "'-1", "'@x", "plain, ä.jpg"}
    assert rows[0]['Käfer, "rot" parts'] == "0" and rows[0]["background %"] == "100.0"
    assert header(CLASSES)[-4:] == ["confidence", "difference", "width", "height"]
    assert not list(tmp_path.glob(".*"))


def test_damaged_files_are_named(tmp_path):
    assert write_table(tmp_path) is None and not (tmp_path / "cover.csv").exists()
    put(tmp_path, "good")
    for text in ("", "[]", '{"name": "a"}', "[" * 100_000):
        write_text(output_path(tmp_path, "cover", "bad"), text)
        with pytest.raises(UserError, match=r"bad\.json is damaged"):
            read_covers(tmp_path)


@pytest.fixture(scope="module")
def network(scenes_root, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    masks = ("--mask", scenes_root / "SegmentationClass", "--dataset", scenes_root)
    run("train.py", "deeplab", *masks, "--recipe", "smoke", "--quiet", "--out", out)
    return out / "last.pt"


@pytest.mark.parametrize("processes", [1, 2])
def test_table_is_complete_after_a_stop_and_of_several_processes(network, tmp_path, processes):
    words = ("test.py", network, "--split", "train", "--save", "label", "cover", "--crf")
    words += ("--device", "cpu", "--processes", processes, "--quiet", "--out", tmp_path)
    process = subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT)
    for _ in range(600):
        if len(list(tmp_path.glob("label/[!.]*"))) >= 2 or process.poll() is not None:
            break
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    process.wait()
    assert f"cover of each class: {tmp_path / 'cover.csv'}" in run(*words).stdout
    rows = table_of(tmp_path)
    labels = sorted(tmp_path.glob("label/*.png"))
    assert [row["id"] for row in rows] == [path.stem for path in labels]
    for row, path in zip(rows, labels):
        label = read_mask(path)
        assert (int(row["height"]), int(row["width"])) == label.shape
        assert float(row["background %"]) == pytest.approx(100 * (label == 0).mean(), abs=1e-4)
        assert row["name"].startswith(path.stem) and 0 <= float(row["difference"]) <= 1
        assert 0 < float(row["confidence"]) <= 1


def test_mirrored_pictures_of_a_folder_differ_as_much(network, scenes_root, tmp_path):
    for path in sorted((scenes_root / "JPEGImages").iterdir())[:3]:
        picture = Image.open(path)
        picture.save(tmp_path / f"{path.stem}.png")
        flipped = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        flipped.save(tmp_path / f"{path.stem}-flipped.png")
    run("test.py", network, "--image", tmp_path, "--quiet", "--out", tmp_path / "out")
    rows = {row["id"]: row for row in table_of(tmp_path / "out")}
    assert len(rows) == 6 and all(row["name"] == f"{name}.png" for name, row in rows.items())
    for name in rows:
        if name.endswith("-flipped"):
            one, other = (float(rows[key]["difference"]) for key in (name, name[:-8]))
            assert one == pytest.approx(other, abs=0.02)
