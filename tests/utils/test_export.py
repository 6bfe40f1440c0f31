"""Exported files give the checkpoint's probabilities, at sizes and batches not traced."""

import json
import subprocess
import sys
from functools import partial
from importlib.util import find_spec

import made
import numpy as np
import pytest
import torch
from PIL import Image
from program import run
from recipes import change
from safetensors import safe_open

from base import UserError
from base.tensor import resize
from export import load_stage
from method.restore import restore_recipe
from utils import checkpoint, export

CLASSES = ("background", "cat", "dog")
saved = partial(made.saved, classes=CLASSES, scale=3.0)  # away from equal probabilities
missing = [*export.missing_onnx(), *["onnxruntime"] * (find_spec("onnxruntime") is None)]
needs_onnx = pytest.mark.skipif(bool(missing), reason=f"{missing} are not installed")


@pytest.mark.parametrize("name, recipe", [("sec", "smoke"), ("sec", "smoke-resnet50")])
def test_command_writes_files_that_agree(tmp_path, name, recipe):
    path, stage = saved(tmp_path, name, recipe=recipe)
    done = run("export.py", path, python=sys.executable)
    home = tmp_path / "home"
    image = torch.randint(0, 256, (3, 3, 45, 70), dtype=torch.uint8)
    loaded, _ = load_stage(home / "model.safetensors")
    model = export.Program(loaded).eval()
    module = torch.export.load(home / "model.pt2").module()
    with torch.no_grad():
        small = resize(image.float(), stage.recipe.data.size)
        view = stage.predict([small], None, False)
        expected = resize(view, (45, 70))
        found = model(image)
        (program,) = module(small)
    assert loaded.spec.classes == CLASSES and expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(program, view)
    archive = next(home.glob("densecrf-*.tar.gz"))
    assert f"pip install {archive}" in done.stdout
    height, width = stage.recipe.data.size
    for shape in ((height, width + 7), (height + 7, width), (2 * height, width // 2 + 1)):
        image = 255 * torch.rand(2, 3, *shape)
        with torch.no_grad():
            torch.testing.assert_close(module(image), loaded.view(image), msg=f"images of {shape}")
    if missing:
        return
    import onnxruntime

    session = onnxruntime.InferenceSession(home / "model.onnx")
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list(CLASSES)
    for shape in ((1, 3, 20, 31), (2, 3, 64, 64), (1, 3, 1, 1), (1, 3, 130, 97)):
        image = torch.randint(0, 256, shape, dtype=torch.uint8)
        (other,) = session.run(None, {"image": image.numpy()})
        with torch.no_grad():
            assert np.abs(other - model(image).numpy()).max() < 1e-4


ALONE = """
import runpy, sys
sys.modules.update(dict.fromkeys({BLOCKED}))  # as if they were not installed
sys.argv = ["predict.py", "photo.png"]
runpy.run_path("home/predict.py", run_name="__main__")
"""
BLOCKED = (
    "torchvision", "timm", "tyro", "cv2", "scipy", "safetensors", "onnx", "onnxscript", "densecrf",
    "method", "network", "utils", "datalist", "loss", "refine", "base",
)  # fmt: skip


def test_example_needs_torch_alone(tmp_path):
    _, stage = saved(tmp_path)
    stage.recipe = change(stage.recipe, test_crf="")
    model = export.Program(stage).eval()
    export.write_program(tmp_path / "home/model.pt2", stage)
    export.write_example(tmp_path / "home/predict.py")
    pixels = np.random.default_rng(0).integers(0, 256, (33, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    done = subprocess.run(
        [sys.executable, "-c", ALONE.replace("{BLOCKED}", repr(BLOCKED))],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    with torch.no_grad():
        label = model(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0].argmax(0)
    shares = {f"{name} {(label == k).float().mean():.1%}" for k, name in enumerate(CLASSES)}
    file, _, told = done.stdout.partition("\n")[0].partition(": ")
    assert file == "photo.png", done.stderr
    assert set(told.split(", ")) == {share for share in shares if not share.endswith(" 0.0%")}
    mask = Image.open(tmp_path / "predicted/photo.png")
    assert np.array_equal(np.asarray(mask), label.numpy()) and len(label.unique()) > 1


def test_safetensors_gives_back_the_checkpoint(tmp_path):
    path, stage = saved(tmp_path)
    content = checkpoint.load(path)
    export.write_safetensors(tmp_path / "m.safetensors", content)
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["classes"]) == list(CLASSES)
    found = export.read_safetensors(tmp_path / "m.safetensors")
    restored = restore_recipe(path, found["recipe"], type(stage.recipe))
    assert restored == stage.recipe and found["stage"] == "sec" and found["step"] == 4
    assert all(torch.equal(found["network"][k], v) for k, v in content["network"].items())


@needs_onnx
def test_native_size_is_exported(tmp_path):
    _, stage = saved(tmp_path, "dsrg-retrain")
    model = export.Program(stage).eval()
    assert model.data.fit == "crop"
    program = export.trace_whole(model)
    assert export.write_onnx(tmp_path / "m.onnx", program, model, {}) < 1e-4


def test_stage_that_is_no_program_is_refused(tmp_path):
    _, stage = saved(tmp_path)

    class Branching(type(stage)):
        def view(self, image):
            (score,) = super().view(image)
            return (score if score.max() > 0.5 else 1 - score,)

    stage.__class__ = Branching
    with pytest.raises(UserError, match="cannot be written as a program"):
        export.write_program(tmp_path / "model.pt2", stage)
    assert not (tmp_path / "model.pt2").exists()


@needs_onnx
def test_a_different_onnx_is_not_written(tmp_path):
    _, stage = saved(tmp_path)
    model = export.Program(stage).eval()
    program = export.trace_whole(model)
    other = export.Program(stage).eval()
    other.data = change(stage.recipe, size=(20, 50)).data
    with pytest.raises(UserError, match="differs from torch"):
        export.write_onnx(tmp_path / "m.onnx", program, other, {})
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("damage", ["missing", "text", "torn", "foreign"])
def test_refusals_are_one_sentence(tmp_path, damage):
    path, _ = saved(tmp_path)
    target = tmp_path / "m.safetensors"
    if damage == "text":
        target.write_text("no tensors")
    elif damage == "torn":
        export.write_safetensors(target, checkpoint.load(path))
        target.write_bytes(target.read_bytes()[:-50])
    elif damage == "foreign":
        target.write_bytes(export.save({"a": torch.zeros(1)}))
    with pytest.raises(UserError) as refusal:
        load_stage(target)
    assert str(target) in str(refusal.value) and "\n" not in str(refusal.value)
