"""Panoramas, thumbnails and single rows of pixels: every stage learns from them and predicts."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from cues import cues_of
from made import layout
from recipes import recipe_of
from test_stage import CASES, make

from base.recipe import change
from datalist.image import read_mask, write_mask
from datalist.spec import resolve
from method import build_stage
from utils.flags import Predict, Train
from utils.infer import predict_split, takes_windows
from utils.loop import train
from utils.output import output_path, read_score

SIZES = {"wide": (20, 200), "high": (200, 20), "small": (64, 64)}
SIZES |= {"row": (1, 500), "column": (500, 1)}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory) -> Path:
    """A folder of pictures of any proportion; each shows its class at one end."""
    tags = {name: (1 + number % 2,) for number, name in enumerate(SIZES)}
    lists = {"train": list(SIZES), "row": ["row"], "wide": ["wide"]}
    root = tmp_path_factory.mktemp("data") / "narrow"
    layout(root, ("background", "rust", "moss"), tags, **lists)
    rng = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        (tag,) = tags[name]
        image = rng.integers(90, 130, (height, width, 3)).astype(np.uint8)
        mask = np.zeros((height, width), np.uint8)
        part = slice(0, max(1, height // 2)), slice(0, max(1, width // 2))
        mask[part], image[part] = tag, (40, 60, 220) if tag == 1 else (40, 190, 60)
        cv2.imwrite(str(root / f"JPEGImages/{name}.png"), image)
        write_mask(root / f"SegmentationClass/{name}.png", mask)
    return root


@pytest.mark.parametrize("case", CASES, ids="/".join)
def test_pictures_of_any_proportion(case, narrow, tmp_path):
    cue = narrow.parent / "narrow.npz"
    if not cue.exists():
        cues_of(resolve(str(narrow)), (20, 20), cue)
    stage = make(case, narrow, cue, steps=2, batch=5)
    train(stage, case[0], Train(tmp_path, device="cpu", quiet=True, picture_every=0))
    kinds = {"label": "predict", "score": "predict", "overlay": "predict", "cue": "cue"}
    save = tuple(kind for kind, ability in kinds.items() if ability in stage.can)
    if not save:
        return
    crf = bool(stage.recipe.prediction.test_crf) and save != ("cue",)
    for tags in (False, True) if "cue" not in save else (True,):
        predict = Predict(tmp_path / str(tags), split="train", save=save, crf=crf, quiet=True,
                          restrict_to_tags=tags)  # fmt: skip
        assert predict_split(stage, predict, torch.device("cpu"), 1) == []
        for name, size in SIZES.items():
            if "label" in save:
                assert read_mask(output_path(predict.out, "label", name)).shape == size
                assert read_score(output_path(predict.out, "score", name)).size == size
            if "cue" in save:
                assert output_path(predict.out, "cue", name).is_file()
    windows = Predict(tmp_path / "tile", split="train", crf=crf, quiet=True, tile=48)
    if takes_windows(stage, windows):
        assert predict_split(stage, windows, torch.device("cpu"), 1) == []
        for name, size in SIZES.items():
            assert read_mask(output_path(windows.out, "label", name)).shape == size


@pytest.mark.parametrize("split", ["row", "wide"])
def test_input_sizes_of_narrow_folders(narrow, tmp_path, split):
    """The recipe for photographs takes the shape of the folder's pictures, at 32 pixels a side."""
    recipe = change(recipe_of("supervised", "photo-timm"), dataset=str(narrow), split=split,
                    size=None, area=4096, steps=1, batch=2)  # fmt: skip
    stage = build_stage("supervised", recipe, resolve(str(narrow)))
    height, width = stage.recipe.data.size
    assert height == 32 and width > 100
    train(stage, "supervised", Train(tmp_path, device="cpu", quiet=True, picture_every=0))
    predict = Predict(tmp_path / "out", split=split, quiet=True)
    assert predict_split(stage, predict, torch.device("cpu"), 1) == []
    assert read_mask(output_path(predict.out, "label", split)).shape == SIZES[split]
