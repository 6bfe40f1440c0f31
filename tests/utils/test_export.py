"""Exported files give the checkpoint's probabilities, at sizes and batches not traced."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from datalist import DataError
from datalist.spec import Spec
from method import stage_class
from utils import checkpoint, export
from utils.infer import resize

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("background", "cat", "dog")


def saved(folder: Path, stage_name: str = "sec", recipe: str = "smoke"):
    """Checkpoint of a stage with random weights, and the stage."""
    spec = Spec(name="x", root=folder, classes=CLASSES, lists={})
    kind = stage_class(stage_name)
    torch.manual_seed(3)
    stage = kind(replace(kind.recipes[recipe], dataset=str(folder)), spec)
    for parameter in stage.network.parameters():  # away from equal probabilities
        parameter.data.mul_(3)
    stage.network.eval()
    content = {
        "stage": stage_name, "recipe": asdict(stage.recipe), "classes": list(CLASSES),
        "network": stage.network.state_dict(), "step": 4,
    }  # fmt: skip
    checkpoint.save(folder / "last.pt", content)
    return folder / "last.pt", stage


def command(*arguments):
    line = [sys.executable, "export.py", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize("name, recipe", [("sec", "smoke"), ("sec", "smoke-resnet50")])
def test_command_writes_files_that_agree(tmp_path, name, recipe):
    path, stage = saved(tmp_path, name, recipe)
    done = command(path, "--out", tmp_path / "home")
    assert done.returncode == 0, done.stderr
    image = torch.randint(0, 256, (3, 3, 45, 70), dtype=torch.uint8)
    model = torch.hub.load(
        str(ROOT), "seedseg", source="local", path=str(tmp_path / "home/model.safetensors")
    )
    with torch.no_grad():
        small = torch.stack([torch.from_numpy(resize(one, stage.recipe.size)) for one in image])
        expected = stage.scores(small)
        expected = torch.nn.functional.interpolate(expected, (45, 70), mode="bilinear")
        found = model(image)
        program = torch.export.load(tmp_path / "home/model.pt2").module()(image)
    assert model.classes == list(CLASSES) and expected.std() > 1e-3
    # Two ways of resizing may round to neighbouring grey levels.
    assert (found - expected).abs().max() < 0.02 * expected.std() + 1e-3
    torch.testing.assert_close(program, found)
    if not export.missing_onnx():
        runtime = pytest.importorskip("onnxruntime", reason="onnxruntime runs the ONNX file")
        session = runtime.InferenceSession(tmp_path / "home/model.onnx")
        (other,) = session.run(None, {"image": image.numpy()})
        assert np.abs(other - found.numpy()).max() < 1e-4
        assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
        assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list(CLASSES)


def test_safetensors_gives_back_the_checkpoint(tmp_path):
    path, stage = saved(tmp_path)
    content = checkpoint.load(path)
    export.write_safetensors(tmp_path / "m.safetensors", content)
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["classes"]) == list(CLASSES)
    found = export.read_safetensors(tmp_path / "m.safetensors")
    restored = checkpoint.restore_recipe(path, found, type(stage.recipe))
    assert restored == stage.recipe and found["stage"] == "sec" and found["step"] == 4
    assert all(torch.equal(found["network"][k], v) for k, v in content["network"].items())


def test_native_size_is_exported(tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime runs the ONNX file")
    if missing := export.missing_onnx():
        pytest.skip(f"ONNX needs {missing}")
    _, stage = saved(tmp_path)
    model = export.Segmenter(stage.network, list(CLASSES), None).eval()
    program = export.trace(model)
    assert export.write_onnx(tmp_path / "m.onnx", program, model, {}) < 1e-4


def test_a_different_onnx_is_not_written(tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime runs the ONNX file")
    if missing := export.missing_onnx():
        pytest.skip(f"ONNX needs {missing}")
    _, stage = saved(tmp_path)
    model = export.Segmenter(stage.network, list(CLASSES), stage.recipe.size).eval()
    program = export.trace(model)
    other = export.Segmenter(stage.network, list(CLASSES), (20, 50)).eval()
    with pytest.raises(DataError, match="differs from torch"):
        export.write_onnx(tmp_path / "m.onnx", program, other, {})
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("damage", ["missing", "text", "torn", "foreign", "cue"])
def test_refusals_are_one_sentence(tmp_path, damage):
    path, _ = saved(tmp_path, "cue-foreground" if damage == "cue" else "sec")
    target = path if damage == "cue" else tmp_path / "m.safetensors"
    if damage == "text":
        target.write_text("no tensors")
    elif damage == "torn":
        export.write_safetensors(target, checkpoint.load(path))
        target.write_bytes(target.read_bytes()[:-50])
    elif damage == "foreign":
        export.save_file({"a": torch.zeros(1)}, target)
    done = command(target, "--out", tmp_path / "home")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and str(target) in done.stderr
    assert not (tmp_path / "home").exists()
