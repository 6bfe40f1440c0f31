"""Every chain on folders without true masks: none at all, or none of the training images."""

import json
import shutil

import numpy as np
import pytest
from program import chain

from datalist.cue import CueFile
from datalist.image import read_mask, write_mask

NOT_SCORED = "not scored, as"
PHOTO = ("cue/cam", "train")


@pytest.fixture(scope="session")
def shared(scenes_root, external_root, tmp_path_factory):
    """What chains may begin with: saliency maps, the cues of one network and them."""
    root = tmp_path_factory.mktemp("shared")
    (root / "saliency").mkdir()
    for path in (scenes_root / "JPEGImages").glob("train_*"):
        saliency = np.zeros((40, 50), np.uint8)
        saliency[10:30, 10:40] = 255
        write_mask(root / "saliency" / f"{path.stem}.png", saliency)
    chain("cue", root / "cue", DATASET=str(scenes_root), SALIENCY=str(root / "saliency"))
    assert not (root / "cue/background").exists()
    return {
        "CUE": str(root / "cue/cue.npz"),
        "SALIENCY": str(root / "saliency"),
        "EXTERNAL": str(external_root),
    }


@pytest.mark.parametrize("name", ["cam", "sec", "dsrg", "rsepm", "locate"])
def test_tags_alone_then_masks_of_val(name, scenes_root, shared, tmp_path):
    """On tags alone the chain ends with pictures of val. With masks of val these are scored, by the
    same networks; training images stay without."""
    mine, out = tmp_path / "mine", tmp_path / "out"
    shutil.copytree(scenes_root, mine, ignore=shutil.ignore_patterns("SegmentationClass"))
    if name == "rsepm":
        shared = {}  # takes cues as masks only, and no saliency
    printed = chain(name, out, DATASET=str(mine), **shared)
    assert len(list((out / "val/overlay").iterdir())) == 4
    assert NOT_SCORED in printed and "look at" in printed
    assert not (out / "score.json").exists() and "miou" not in printed
    if name in ("sec", "dsrg"):
        background = CueFile.open(out / "cue/cue.npz")["train_00000"][0]
        height, width = background.shape
        assert background[0, 0] and not background[height // 2, width // 2]

    masks = shutil.ignore_patterns("train_*")
    shutil.copytree(scenes_root / "SegmentationClass", mine / "SegmentationClass", ignore=masks)
    more = {"SEGMENTER": str(out / "segmenter/last.pt")} if name == "locate" else {}
    printed = chain(name, out, DATASET=str(mine), **shared, **more)
    score = json.loads((out / "score.json").read_text())
    assert printed.splitlines()[-1] == f"miou {score['miou']:.2f}"
    assert (NOT_SCORED in printed) == (name != "sec")


@pytest.mark.parametrize("name", ["sec", "rsepm"])
def test_photographs_begin_with_sure_masks_of_activation_maps(name, scenes_root, tmp_path):
    """A folder's own recipe, with networks of random weights: the cues are masks, not cells."""
    network = "--weights none --backbone timm:tf_mobilenetv3_small_minimal_100"
    small = "--area 1600 --steps 2 --batch 2 --warmup 0 --device cpu --quiet"
    more = {"AFFINITY": "0", "RSEPM": "--recursion-epoch 0 --mix-epoch 0"}
    train = f"{small} {network}"
    printed = chain(name, tmp_path, DATASET=str(scenes_root), TRAIN=train, **more)
    recipes = [json.loads((tmp_path / f"{path}/recipe.json").read_text()) for path in PHOTO]
    assert [recipe["stage"] for recipe in recipes] == ["cam", name]
    assert all(recipe["fit"] == "window" for recipe in recipes)
    assert recipes[1]["cue"] == str(tmp_path / "cue/sure/label")
    cues = [read_mask(path) for path in sorted((tmp_path / "cue/sure/label").iterdir())]
    assert len(cues) == 12 and any((cue == 255).any() for cue in cues)
    assert printed.splitlines()[-1].startswith("miou ")
