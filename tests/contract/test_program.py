"""What is exported is what test.py predicts, for every stage; what cannot be is refused."""

import runpy
import sys
from functools import partial

import cv2
import made
import numpy as np
import pytest
import torch
from PIL import Image

import base.tile
import export as program
from base import UserError
from datalist.image import read_image, read_mask
from method import STAGES, stage_class
from method.restore import restore
from method.stage import SoftmaxOfSum
from utils import checkpoint, export
from utils.cover import read_covers
from utils.flags import Predict
from utils.infer import predict_split, run_network
from utils.output import output_path, read_score, upsample

CLASSES = ("background", "cat", "dog", "bird")
saved = partial(made.saved, classes=CLASSES, scale=1.5, seed=5)  # scores that differ
SIZES = ((97, 64), (33, 50), (120, 160), (41, 41), (8, 70))
EXPORTED = [
    (name, recipe)
    for name in STAGES
    for recipe in stage_class(name).recipes
    if "smoke" in recipe and "export" in stage_class(name).can
]
EXPORTED += [
    (name, "photo-timm")
    for name in STAGES
    if "photo" in stage_class(name).recipes and "export" in stage_class(name).can
]
REFUSED = [name for name in STAGES if "export" not in stage_class(name).can]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of pictures as smooth as photographs, each of another size."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for height, width in SIZES:
        coarse = rng.integers(0, 256, (7, 9, 3)).astype(np.float32)
        pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
        pixels = np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{height}x{width}.png")
    return folder


@pytest.mark.parametrize("name, recipe", EXPORTED, ids=map("/".join, EXPORTED))
def test_an_exported_program_gives_what_test_py_predicts(name, recipe, photos, tmp_path):
    """Scales, mirror images and CRF as the recipe says, one pass, or no CRF."""
    path, stage = saved(tmp_path, name, recipe=recipe)
    loaded, _ = program.load_stage(path)
    export.write_program(tmp_path / "model.pt2", loaded)
    export.write_example(tmp_path / "predict.py")
    predict_py = runpy.run_path(str(tmp_path / "predict.py"))
    seen = set()
    for fast, crf in ((False, True), (True, True), (False, False)):
        crf = crf and bool(stage.recipe.prediction.test_crf)
        network = predict_py["Network"](tmp_path / "model.pt2", fast)
        assert network.classes == list(CLASSES)
        network.how["crf"] = network.how["crf"] if crf else None
        predict = Predict(
            tmp_path / f"out-{fast}-{crf}", image=(photos,), save=("label", "score", "cover"),
            quiet=True, scales=(1.0,) if fast else None, crf=crf,
            batch=1,  # the number of images changes the last bits of a convolution
        )  # fmt: skip
        assert predict_split(stage, predict, torch.device("cpu"), 1) == []
        # test.py fuses convolutions. Sums of logits and a CRF enlarge the rounding of this.
        amplified = crf or isinstance(stage, SoftmaxOfSum)
        other = 2e-3 if amplified else 0
        for file in sorted(photos.iterdir()):
            picture = predict_py["Picture"](file, network.bands)
            pixels, size = picture.shrunk(800), picture.size
            score, difference = network.score(pixels)
            written = read_score(output_path(predict.out, "score", file.stem))
            whole = np.zeros_like(score)
            whole[written.keys] = upsample(written.score, size) / 255
            assert (np.abs(whole - score) > 0.5 / 255 + 1e-4).mean() <= other
            label = read_mask(output_path(predict.out, "label", file.stem))
            assert (score.argmax(0) != label).mean() <= (2e-3 if crf else 0), file.stem
            seen |= set(np.unique(label))
            cover = read_covers(predict.out)[file.stem]
            assert cover["difference"] == round(difference, 4)
            confidence = round(float(score.max(0).mean()), 4)
            assert cover["confidence"] == pytest.approx(confidence, abs=1.1e-4 if amplified else 0)
            parts = [predict_py["count_parts"](label == k) for k in range(1, len(CLASSES))]
            assert list(cover["parts"].values()) == parts
    assert len(seen) > 1


@pytest.mark.parametrize(
    "tile, pixels, name",
    [("auto", 2_000_000, "a.png"), (90, 2_000_000, "a.tif"), (90, 2_000, "a.tif")],
)
def test_an_exported_program_predicts_large_pictures_in_windows(
    tile, pixels, name, tmp_path, monkeypatch
):
    """The same labels as test.py, also where windows are shrunk, or a TIFF is read in rows."""
    monkeypatch.setattr("base.tile.BLOCK", 100 * 100)
    monkeypatch.setattr(export, "WORK_PIXELS", pixels)
    path, _ = saved(tmp_path, "supervised")
    content = checkpoint.load(path)
    loaded = restore(path, content | {"usual_size": [70, 90]}, photos=True)
    export.write_program(tmp_path / "model.pt2", loaded)
    coarse = np.random.default_rng(0).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    picture = cv2.resize(coarse, (301, 240), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(picture).save(tmp_path / name, tiffinfo={278: 16})  # rows per strip
    predict = Predict(
        tmp_path / "out", image=(tmp_path / name,), quiet=True, tile=tile, work_pixels=pixels,
        crf=True, batch=1,
    )  # fmt: skip
    assert predict_split(loaded, predict, torch.device("cpu"), 1) == []
    label = read_mask(output_path(predict.out, "label", "a"))
    command = ["predict.py", tmp_path / name, "--tile", tile, "--out", tmp_path / "predicted"]
    export.write_example(tmp_path / "home/predict.py")
    (tmp_path / "model.pt2").rename(tmp_path / "home/model.pt2")
    monkeypatch.setattr(sys, "argv", [*map(str, command)])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "tile", base.tile)  # with the small blocks
    monkeypatch.delitem(sys.modules, "picture", raising=False)
    predict_py = runpy.run_path(str(tmp_path / "home/predict.py"))
    picture_py = sys.modules.pop("picture")
    if name == "a.tif":
        monkeypatch.setattr(picture_py, "PIXELS_AT_ALL", 1)  # of pictures that are decoded whole
    assert predict_py["main"]() == 0
    found = np.asarray(Image.open(tmp_path / "predicted/a.png"))
    assert found.shape == label.shape == (240, 301)
    assert (found == label).mean() > (0.9999 if pixels > 2_000 else 0.99)
    assert len(np.unique(label)) > 1


@pytest.mark.parametrize("name, recipe", EXPORTED, ids=map("/".join, EXPORTED))
def test_the_whole_program_gives_what_test_py_predicts_at_scale_1(name, recipe, photos, tmp_path):
    _, stage = saved(tmp_path, name, recipe=recipe)
    model, predict = export.Program(stage).eval(), Predict(scales=(1.0,), save=("score",))
    for file in sorted(photos.iterdir()):
        image = torch.from_numpy(read_image(file)).permute(2, 0, 1)
        ((_, score, _),) = run_network(stage, predict, [{"image": image}], torch.device("cpu"))
        with torch.no_grad():
            found = model(image[None])[0].numpy()
        assert np.abs(found - upsample(score, tuple(image.shape[-2:]))).max() < 1e-4


@pytest.mark.parametrize("name", REFUSED)
def test_a_stage_without_a_program_is_refused_before_anything_is_written(name, tmp_path):
    path, _ = saved(tmp_path, name)
    with pytest.raises(UserError) as refusal:
        program.export(path, tmp_path / "home")
    message = str(refusal.value)
    assert message.startswith(f"{path}: stage {name} cannot be exported") and "\n" not in message
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_these_stages_are_no_programs():
    assert set(REFUSED) == {"cue-background", "affinity", "seam", "segmenter", "resegment"}
