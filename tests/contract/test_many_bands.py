"""Pictures of 12 bits and of five bands: training, prediction, report's eyes and export agree."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tifffile
import torch
from cues import cues_of
from made import layout
from recipes import change_known, recipe_of

import export as program
from base import UserError
from datalist.bands import Bands
from datalist.image import read_image, read_mask
from datalist.prepare.bands import Arguments, main
from datalist.spec import resolve
from method import stage_class
from method.refinement import Refinement, TrainCRF
from method.restore import restore
from utils import checkpoint
from utils.flags import Predict, Train
from utils.infer import predict_split
from utils.loop import train
from utils.output import output_path

RNG = np.random.default_rng(4)


def make_folder(root, bands, bits):
    """Four pictures with masks in VOC layout; class 1 is bright in the last band alone."""
    tags = {str(number): (number % 2 + 1,) for number in range(4)}
    layout(root, ("background", "cat", "dog"), tags)
    for number in range(4):
        low = RNG.random((4, 5, bands))
        image = cv2.resize(low, (64, 48), interpolation=cv2.INTER_CUBIC).clip(0, 1)
        mask = np.zeros((48, 64), np.uint8)
        mask[10:30, 10:40] = number % 2 + 1
        image[mask == 1, -1] = 1
        values = (image.reshape(48, 64, bands) * (2**bits - 1)).astype(np.uint16)
        path = root / f"JPEGImages/{number}"
        if bands == 3:
            cv2.imwrite(f"{path}.png", values[..., ::-1])
        else:
            tifffile.imwrite(f"{path}.tif", values, planarconfig="contig")
        cv2.imwrite(str(root / f"SegmentationClass/{number}.png"), mask)
    main(Arguments(root, ("all",) if bands > 3 else ()))
    return root


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("five") / "data", 5, 14)


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("deep") / "data", 3, 12)


def trained(root, out, name="supervised", recipe="smoke", **changes):
    masks = str(root / "SegmentationClass")
    given = {"dataset": str(root), "mask": masks, "cue": masks, "steps": 2, "batch": 2}
    if name in ("sec", "dsrg"):
        given |= {"cue": str(cues_of(resolve(str(root)), (10, 10), out / "cue.npz"))}
    recipe = change_known(recipe_of(name, recipe), **given, **changes)
    torch.manual_seed(0)
    stage = stage_class(name)(recipe, resolve(str(root)))
    stage.load()
    train(stage, name, Train(out, quiet=True, device="cpu", picture_every=1))
    return stage


@pytest.mark.parametrize("name", ["supervised", "cam", "seam", "segmenter", "rsepm"])
def test_five_bands_are_learned_and_predicted(five, tmp_path, name):
    stage = trained(five, tmp_path, name)
    assert stage.spec.bands.channels == 5
    content = checkpoint.load(tmp_path / "last.pt")
    again = restore(tmp_path / "last.pt", content, photos=True)
    assert again.spec.bands == stage.spec.bands
    image = torch.from_numpy(read_image(five / "JPEGImages/0.tif", again.spec.bands))
    image = image.permute(2, 0, 1)[None].float()
    tags = torch.tensor([[1.0, 0.0]])
    again.network.eval()
    with torch.no_grad():
        one = again.predict([image], tags, False)
        image[:, 4] = 255 - image[:, 4]
        assert (one - again.predict([image], tags, False)).abs().max() > 0


@pytest.mark.parametrize(
    "name", ["sec", "dsrg", "cue-foreground", "cue-background", "affinity", "deeplab"]
)
def test_every_stage_learns_five_bands(five, tmp_path, name):
    trained(five, tmp_path, name)
    assert (tmp_path / "last.pt").is_file()


@pytest.mark.parametrize("kind", ["five", "deep"])
def test_prediction_and_export_read_the_pictures_as_training_did(kind, tmp_path, request):
    root = request.getfixturevalue(kind)
    trained(root, tmp_path, lr=0.05)
    path = tmp_path / "last.pt"
    stage = restore(path, checkpoint.load(path), photos=True)
    files = sorted((root / "JPEGImages").iterdir())
    predict = Predict(tmp_path / "out", image=tuple(files), save=("label", "overlay"), quiet=True,
                      crf=bool(stage.recipe.prediction.test_crf))  # fmt: skip
    assert predict_split(stage, predict, torch.device("cpu"), 1) == []
    home = tmp_path / "home"
    program.export(path, home)
    command = [sys.executable, home / "predict.py", *files, "--out", tmp_path / "taken"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = set()
    for file in files:
        label = read_mask(output_path(predict.out, "label", file.stem))
        assert np.array_equal(read_mask(tmp_path / f"taken/{file.stem}.png"), label)
        seen |= set(np.unique(label).tolist())
    assert len(seen) > 1  # labels that differ from each other
    # The safetensors file knows the bands, too.
    assert program.load_stage(home / "model.safetensors")[0].spec.bands == stage.spec.bands


def test_the_crf_in_training_sees_what_is_shown():
    image = torch.randint(0, 256, (1, 5, 40, 40), dtype=torch.uint8)
    refinement, logit = Refinement(TrainCRF("sec-test")), torch.randn(1, 3, 10, 10)
    shown = refinement.marginals(image[:, :3], logit)
    assert torch.equal(refinement.marginals(image, logit), shown)


def test_a_run_on_other_values_is_another_run(deep, tmp_path):
    stage = trained(deep, tmp_path)
    content = json.loads((deep / "bands.json").read_text())
    (deep / "bands.json").write_text(json.dumps(content | {"high": [9999.0]}))
    try:
        with pytest.raises(UserError, match=r"other bands or values of the pictures \(bands.json"):
            trained(deep, tmp_path)
    finally:
        (deep / "bands.json").write_text(json.dumps(content))
    assert not train(stage, "supervised", Train(tmp_path, quiet=True, device="cpu"))


def test_more_bands_need_their_mean(five, tmp_path):
    spec = resolve(str(five))
    bands = Bands(spec.bands.index, spec.bands.low, spec.bands.high)
    recipe = recipe_of("supervised", "smoke")
    with pytest.raises(UserError, match="mean of the 5 bands is not known"):
        stage_class("supervised")(recipe, type(spec)(**{**vars(spec), "bands": bands}))
