"""External masks lose the classes that the target has, too."""

import json
import shutil

import numpy as np
import pytest
from made import layout
from program import chain, run

from datalist.folder import write_tags
from datalist.image import read_mask, write_mask
from datalist.spec import resolve
from datalist.tag import read_tags

CLASSES = ("background", "Stop Sign", "cat", "dog")
TAGS = {"a": (1, 2), "b": (1,), "c": (3,), "d": ()}
"""Images of the external folder; image b shows the shared class alone, image d none."""


@pytest.fixture
def external(tmp_path):
    return folder(tmp_path / "external", CLASSES, TAGS)


def folder(root, classes, tags):
    """Data set whose masks have a row of each tag, a row of 255, and background."""
    layout(root, classes, tags)
    for name, row in tags.items():
        pixels = np.random.default_rng(0).integers(0, 255, (6, 5, 3)).astype(np.uint8)
        write_mask(root / "JPEGImages" / f"{name}.png", pixels[..., 0])
        mask = np.zeros((6, 5), np.uint8)
        mask[5] = 255
        for number, tag in enumerate(row):
            mask[number] = tag
        write_mask(root / "SegmentationClass" / f"{name}.png", mask)
    return root


def target(tmp_path, *names):
    return folder(tmp_path / "target", ("background", *names), {"x": (1,)})


def test_shared_classes_teach_nothing(external, tmp_path):
    """Case, spaces and underscores of a name make no difference."""
    flags = ("--dataset", target(tmp_path, "bird", "stop_sign"), "--out", tmp_path / "other")
    done = run("-m script.external", external, *flags, "--quiet")
    assert done.stdout == f"{tmp_path / 'other'}\n"
    assert "left out: Stop Sign\n" in done.stderr
    spec = resolve(str(tmp_path / "other"))
    assert spec.classes == ("background", "cat", "dog")
    assert read_tags(spec, spec.ids("train")) == {"a": (1,), "c": (2,), "d": ()}
    masks = {name: read_mask(spec.mask_path(name), 3)[:, 0].tolist() for name in "acd"}
    shown = {"a": [255, 1, 0, 0, 0, 255], "c": [2, 0, 0, 0, 0, 255], "d": [0, 0, 0, 0, 0, 255]}
    assert masks == shown
    assert all(spec.image_path(name).is_file() for name in "acd")


def test_the_folder_is_made_again_where_something_changed(external, tmp_path):
    flags = ("--dataset", target(tmp_path, "stop sign"), "--out", tmp_path / "other", "--quiet")
    run("-m script.external", external, *flags)
    written = (tmp_path / "other/tags.csv").stat().st_mtime_ns
    run("-m script.external", external, *flags)
    assert (tmp_path / "other/tags.csv").stat().st_mtime_ns == written
    run("-m script.external", external, *flags, "--leave-out", "CAT")
    assert resolve(str(tmp_path / "other")).classes == ("background", "dog")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("not to be replaced")
    flags = (*flags[:2], "--out", tmp_path / "mine")
    assert "exists already" in run("-m script.external", external, *flags, code=1).stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_nothing_is_written_where_nothing_is_left_out(external, tmp_path):
    out = ("--out", tmp_path / "other")
    other = folder(tmp_path / "birds", ("background", "bird"), {"x": (1,)})
    done = run("-m script.external", external, "--dataset", other, *out)
    assert done.stdout == f"{external}\n" and not done.stderr
    other = target(tmp_path, "dog")
    kept = run("-m script.external", external, "--dataset", other, *out, "--keep")
    assert kept.stdout == f"{external}\n" and "kept: dog" in kept.stderr
    assert not (tmp_path / "other").exists()
    flags = ("--dataset", tmp_path / "target", *out, "--keep", "--leave-out", "cat", "--quiet")
    assert run("-m script.external", external, *flags).stdout == f"{tmp_path / 'other'}\n"
    assert resolve(str(tmp_path / "other")).classes == ("background", "Stop Sign", "dog")


def test_refusals(external, four_root, tmp_path):
    out = ("--out", tmp_path / "other")
    flags = ("--dataset", target(tmp_path, *CLASSES[1:]), *out)
    assert "all classes of" in run("-m script.external", external, *flags, code=1).stderr
    flags = ("--dataset", four_root, *out, "--leave-out", "horse")
    assert "no class 'horse'" in run("-m script.external", external, *flags, code=1).stderr
    (external / "SegmentationClass/c.png").unlink()
    flags = ("--dataset", four_root, *out, "--leave-out", "cat", "--quiet")
    assert "c.png" in run("-m script.external", external, *flags, code=1).stderr
    assert not (tmp_path / "other").exists()


def test_locate_on_photographs_leaves_shared_classes_out(scenes_root, external_root, tmp_path):
    """The recipes of photographs, with networks of random weights."""
    shared, out = tmp_path / "shared", tmp_path / "out"
    shutil.copytree(external_root, shared)
    spec = resolve(str(shared))
    classes = (*spec.classes[:-1], resolve(str(scenes_root)).classes[1])
    write_tags(shared / "tags.csv", read_tags(spec, spec.ids("train")), classes)
    (shared / "classes.txt").write_text("\n".join(classes) + "\n")
    network = "--weights none --backbone timm:tf_mobilenetv3_small_minimal_100"
    small = "--area 1600 --steps 2 --batch 2 --warmup 0 --device cpu --quiet"
    printed = chain(
        "locate", out, DATASET=str(scenes_root), EXTERNAL=str(shared), TRAIN=f"{small} {network}",
        SEGMENT="--segmenter.weights none",
    )  # fmt: skip
    for stage in ("external", "segmenter"):
        recipe = json.loads((out / stage / "recipe.json").read_text())
        assert recipe["dataset"] == str(out / "other") and recipe["fit"] == "window"
    assert resolve(str(out / "other")).classes == classes[:-1]
    retrain = json.loads((out / "retrain/recipe.json").read_text())
    assert retrain["mask"] == str(out / "sure/label")  # without unsure pixels
    external = json.loads((out / "external/recipe.json").read_text())
    assert external["steps"] == 2  # what TRAIN says, not the chain
    assert printed.splitlines()[-1].startswith("miou ")
