"""The program that goes beside an exported network, on a network that tells colours apart."""

import csv
import os
import re
import runpy
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra import numpy as hnp
from PIL import Image
from torch import nn

from base.recipe import Data, Prediction
from datalist import augment
from datalist.image import read_image
from datalist.spec import Spec
from utils.export import write_crf, write_example, write_program

SCENE = np.zeros((40, 60, 3), np.uint8)
SCENE[:, :30], SCENE[10:20, 40:50] = (220, 30, 30), (30, 30, 220)
"""Red on the left, a blue box on the right, black elsewhere."""


class Colours(nn.Module):
    """Class 1 is red, class 2 blue, the background neither."""

    def forward(self, image):
        image = image.float() / 255
        red, blue = image[:, 0] - image[:, 2], image[:, 2] - image[:, 0]
        return torch.stack([torch.full_like(red, 0.3), red, blue], 1)


def stage_of(folder, crf=""):
    network = Colours()
    return SimpleNamespace(
        network=network,
        can=frozenset({"tile"}),
        presence=None,
        first_view=(),
        view=lambda image: (network(image),),
        join=lambda means, tags, count: means[0],
        spec=Spec("colours", folder, ("background", "red", "blue"), {}),
        recipe=SimpleNamespace(
            data=Data(size=(40, 60), fit="crop"), prediction=Prediction(test_crf=crf)
        ),
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    write_example(folder / "predict.py")
    write_program(folder / "model.pt2", stage_of(folder))
    return folder


def predict(home, *arguments, code=0, **variables):
    command = [sys.executable, str(home / "predict.py"), *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | variables
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=home)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def expected(image):
    """Labels of an RGB image, as the network gives them."""
    score = Colours()(torch.from_numpy(image.transpose(2, 0, 1)[None].copy()))
    return score[0].argmax(0).numpy()


def test_without_densecrf_a_line_says_what_is_missing(tmp_path):
    write_example(tmp_path / "predict.py")
    write_program(tmp_path / "model.pt2", stage_of(tmp_path, "deeplab"))
    archive = write_crf(tmp_path)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "densecrf.py").write_text("raise ImportError")
    Image.fromarray(SCENE).save(tmp_path / "scene.png")
    text = predict(tmp_path, "scene.png", PYTHONPATH=str(hidden))
    assert f"areas can differ by tens of percent: pip install {archive}\n" in text
    assert np.array_equal(Image.open(tmp_path / "predicted/scene.png"), expected(SCENE))
    assert "pip install" not in predict(tmp_path, "scene.png")


def test_archive_of_densecrf_holds_its_sources_and_is_always_the_same(tmp_path):
    first, second = (write_crf(tmp_path / name) for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes() and len(first.read_bytes()) < 200_000
    with tarfile.open(first) as archive:
        top = first.name.removesuffix(".tar.gz")
        files = {info.name.removeprefix(f"{top}/"): info for info in archive}
        source = Path(__file__).resolve().parents[2] / "CRF"
        for name in (
            "pyproject.toml", "CMakeLists.txt", "core/module.cpp", "core/simd.h",
            "src/densecrf/__init__.py", "src/densecrf/pydensecrf/densecrf.py",
        ):  # fmt: skip
            assert archive.extractfile(files[name]).read() == (source / name).read_bytes()
        built = re.findall(r"[\w./-]+", (source / "CMakeLists.txt").read_text())
        assert {name for name in built if (source / name).is_file()} <= files.keys()
        assert all(name.rpartition(".")[2] not in ("so", "pyc") for name in files)
        assert {(info.uid, info.gid, info.mtime, info.mode) for info in files.values()} == {
            (0, 0, 946684800, 0o644)
        }


@given(mask=hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_connected_parts_are_opencv_s(home, mask):
    count_parts = runpy.run_path(str(home / "predict.py"))["count_parts"]
    assert count_parts(mask) == cv2.connectedComponents(mask.view(np.uint8), connectivity=8)[0] - 1


def test_cover_has_a_row_of_each_picture(home, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("=scene, 1.png", "b.png"):
        Image.fromarray(SCENE).save(photos / name)
    (photos / "bad.png").touch()
    predict(home, photos, "--out", tmp_path / "out", code=1)
    assert (tmp_path / "out/cover.csv").read_bytes().startswith(b"\xef\xbb\xbfname,")
    with open(tmp_path / "out/cover.csv", encoding="utf-8-sig", newline="") as file:
        first, second = csv.DictReader(file)
    assert first.pop("name") == "'=scene, 1.png" and second.pop("name") == "b.png"
    assert first == second
    numbers = {key: float(value) for key, value in first.items()}
    assert numbers == {
        "background %": pytest.approx(100 * 1100 / 2400, abs=1e-3), "red %": 50.0,
        "blue %": pytest.approx(100 * 100 / 2400, abs=1e-3), "red parts": 1, "blue parts": 1,
        "confidence": pytest.approx(0.5, abs=0.3), "difference": 0.0, "width": 60, "height": 40,
    }  # fmt: skip


def test_usage_without_arguments(home):
    assert predict(home, code=2).startswith("usage: predict.py")


def test_alone_it_says_what_it_lacks(home, tmp_path):
    (tmp_path / "predict.py").write_bytes((home / "predict.py").read_bytes())
    command = [sys.executable, str(tmp_path / "predict.py"), "photo.jpg"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("tile.py beside it: copy the whole exported folder\n")
    assert "Traceback" not in done.stderr


def test_reads_pictures_as_the_main_reader_does(home, tmp_path):
    scene = Image.fromarray(SCENE)
    alpha = scene.convert("RGBA")
    alpha.putalpha(90)
    scene.save(tmp_path / "plain.png")
    alpha.save(tmp_path / "alpha.png")
    scene.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    scene.convert("L").save(tmp_path / "grey.png")
    scene.quantize(8).save(tmp_path / "palette.png")
    noise = np.random.default_rng(0).integers(0, 256, SCENE.shape).astype(np.uint16)
    deep = SCENE.astype(np.uint16) * 256 + noise
    cv2.imwrite(str(tmp_path / "deep.png"), deep[..., ::-1])
    cv2.imwrite(str(tmp_path / "deep_grey.png"), deep[..., 0])
    for orientation in range(1, 9):
        exif = scene.getexif()
        exif[0x0112] = orientation
        scene.save(tmp_path / f"turned_{orientation}.png", exif=exif)
    out = tmp_path / "out"
    predict(home, tmp_path, "--out", out)
    files = sorted(path for path in tmp_path.iterdir() if path.is_file())
    assert len(files) == 15
    for path in files:
        image = read_image(path)
        mask = Image.open(out / f"{path.stem}.png")
        assert mask.mode == "P" and mask.getpalette()[3:6] == [128, 0, 0]
        assert np.array_equal(np.array(mask), expected(image)), path.name
        width, height = Image.open(out / f"{path.stem}_overlay.jpg").size
        with_legend = height / width > image.shape[0] / image.shape[1]
        assert max(width, height) >= 400 and with_legend
    assert len(np.unique(np.array(Image.open(out / "deep.png")))) == 3


def test_large_picture_is_shrunk_and_its_mask_has_its_own_size(home, tmp_path):
    large = Image.fromarray(SCENE).resize((2000, 3000), Image.NEAREST)
    exif = large.getexif()
    exif[0x0112] = 6
    large.save(tmp_path / "large.jpg", exif=exif, quality=95)
    text = predict(home, tmp_path / "large.jpg", "--longest", 300, "--out", tmp_path / "out")
    mask = np.array(Image.open(tmp_path / "out/large.png"))
    assert mask.shape == (2000, 3000)  # as a person sees it
    assert (mask != expected(read_image(tmp_path / "large.jpg"))).mean() < 0.01
    small = expected(augment.shrink(read_image(tmp_path / "large.jpg"), (200, 300)))
    assert np.array_equal(mask, cv2.resize(small, (3000, 2000), interpolation=cv2.INTER_NEAREST))
    assert "red 50.0%" in text and Image.open(tmp_path / "out/large_overlay.jpg").width == 600


def test_one_bad_file_stops_no_other(home, tmp_path):
    photos = tmp_path / "photos"
    (photos / "folder.jpg").mkdir(parents=True)
    (photos / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (photos / "empty.jpg").touch()
    for name in ("a.png", "a.bmp", "what? 1.png"):
        Image.fromarray(SCENE).save(photos / name)
    whole = (photos / "a.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    text = predict(home, photos, photos / "none.jpg", "--out", tmp_path / "out", code=1)
    made = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert made == ["a.bmp.png", "a.png.png", "what? 1.png"]
    assert text.count("not read: ") == 5
    before = (photos / "what? 1.png").read_bytes()
    predict(home, photos / "what? 1.png", "--out", photos, code=1)
    assert (photos / "what? 1.png").read_bytes() == before
