"""RecurSeed and locate-then-segment as a user runs them, at smoke size."""

import json

import numpy as np
from program import chain, run

from datalist.image import read_mask
from datalist.spec import resolve
from datalist.tag import read_tags


def test_locate_from_tags_and_other_masks_to_miou(scenes_root, external_root, tmp_path):
    """The whole script: its folders are data sets of different classes."""
    data = {"DATASET": str(scenes_root), "EXTERNAL": str(external_root)}
    printed = chain("locate", tmp_path, **data, PASSES="2")
    score = json.loads((tmp_path / "score.json").read_text())
    assert printed.splitlines()[-1] == f"miou {score['miou']:.2f}"
    recipe = json.loads((tmp_path / "resegment/recipe.json").read_text())
    assert recipe["passes"] == 2 and recipe["steps"] == 0  # the networks' maps, as they come
    tags = read_tags(resolve(str(scenes_root)), ["train_00000"])["train_00000"]
    label = read_mask(tmp_path / "pseudo/label/train_00000.png")
    assert set(np.unique(label)) <= {0, *tags}


def test_rsepm_from_tags_to_a_network_on_its_masks(scenes_root, tmp_path):
    """The whole script, then masks without the walk of the same seeds."""
    printed = chain("rsepm", tmp_path, DATASET=str(scenes_root))
    assert "best of 15" in printed
    score = json.loads((tmp_path / "score.json").read_text())
    assert printed.splitlines()[-1] == f"miou {score['miou']:.2f}"
    for folder in ("sure", "pseudo"):
        assert len(list((tmp_path / folder / "label").iterdir())) == 12
    recipe = json.loads((tmp_path / "deeplab/recipe.json").read_text())
    assert recipe["mask"] == str(tmp_path / "pseudo/label")
    out = ("--out", tmp_path / "crf", "--quiet")
    run("-m pseudo", tmp_path / "seed", "--dataset", scenes_root, *out)
    labels = sorted((tmp_path / "crf/label").iterdir())
    assert len(labels) == 12
    walked = [read_mask(tmp_path / "pseudo/label" / path.name) for path in labels]
    assert any((read_mask(path) != other).any() for path, other in zip(labels, walked))


def test_pseudo_masks_say_what_they_need(scenes_root, tmp_path):
    out = ("--dataset", scenes_root, "--out", tmp_path / "x")
    assert "--save score" in run("-m pseudo", tmp_path, *out, code=1).stderr
    (tmp_path / "score").mkdir()
    assert "12 images" in run("-m pseudo", tmp_path, *out, code=1).stderr
    assert not (tmp_path / "x").exists()


def test_recursion_is_measured_at_each_kept_step(scenes_root, tmp_path):
    where = ("--dataset", scenes_root, "--recipe", "smoke", "--quiet", "--keep-every", 2)
    run("train.py", "rsepm", *where, "--out", tmp_path)
    printed = run("-m script.study.recursion", tmp_path, "--images", 6).stdout.splitlines()
    assert printed[0].split() == ["step", "cam", "correlated", "refined", "decoder"]
    assert [line.split()[0] for line in printed[1:]] == ["2", "4"]
    numbers = json.loads((tmp_path / "watch.json").read_text())
    assert [f"{value:.1f}" for value in numbers.values()] == printed[-1].split()[1:]
