"""What is exported is what test.py predicts, for every stage; what cannot be is refused."""

from dataclasses import asdict

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from recipes import change, recipe_of

import export as program
from base import UserError
from datalist.image import read_image
from datalist.spec import Spec
from method import STAGES, stage_class
from utils import checkpoint, export
from utils.flags import Predict
from utils.infer import predict_split, run_network
from utils.output import output_path, read_score, upsample

CLASSES = ("background", "cat", "dog", "bird")
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


def saved(folder, name: str, recipe: str):
    """Checkpoint of a stage with random weights whose scores differ, and the stage."""
    kind = stage_class(name)
    torch.manual_seed(5)
    spec = Spec(name="x", root=folder, classes=CLASSES, lists={})
    stage = kind(change(recipe_of(name, recipe), dataset=str(folder)), spec)
    for parameter in stage.network.parameters():  # away from equal probabilities, not to 0 and 1
        parameter.data.mul_(1.5)
    stage.network.eval()
    content = {
        "stage": name, "recipe": asdict(stage.recipe), "classes": list(CLASSES), "step": 4,
        "network": stage.network.state_dict(),
    }  # fmt: skip
    checkpoint.save(folder / "last.pt", content)
    return folder / "last.pt", stage


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
    path, stage = saved(tmp_path, name, recipe)
    model, _ = program.load_program(path)
    files = sorted(photos.iterdir())
    out = tmp_path / "out"
    predict = Predict(out, image=(photos,), save=("score",), scales=(1.0,), quiet=True, batch=3)
    assert predict_split(stage, predict, torch.device("cpu"), 1) == []
    recorded = export.trace(model)
    export.write_program(tmp_path / "model.pt2", recorded, model)
    traced = torch.export.load(tmp_path / "model.pt2").module()
    seen = []
    for file in files:
        image = torch.from_numpy(read_image(file)).permute(2, 0, 1)
        size = tuple(image.shape[-2:])
        sample = {"id": file.stem, "image": image, "size": torch.tensor(size)}
        ((_, score, _),) = run_network(stage, predict, [sample], torch.device("cpu"))
        expected = upsample(score, size)
        with torch.no_grad():
            found = model(image[None])[0].numpy()
            assert np.abs(traced(image[None])[0].numpy() - found).max() < 1e-5
        assert found.shape == expected.shape == (len(CLASSES), *size)
        assert np.abs(found - expected).max() < 1e-4
        written = read_score(output_path(out, "score", file.stem))
        assert written.size == size
        whole = np.zeros_like(expected)
        whole[written.keys] = upsample(written.score, size) / 255
        assert np.abs(whole - found).max() <= 0.5 / 255 + 1e-4
        seen.append(found)
    assert max(score[1:].std() for score in seen) > 1e-3


@pytest.mark.parametrize("name", REFUSED)
def test_a_stage_without_a_program_is_refused_before_anything_is_written(name, tmp_path):
    path, _ = saved(tmp_path, name, "smoke")
    with pytest.raises(UserError) as refusal:
        program.export(path, tmp_path / "home")
    message = str(refusal.value)
    assert message.startswith(f"{path}: stage {name} cannot be exported") and "\n" not in message
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_these_stages_are_no_programs():
    assert set(REFUSED) == {"cue-background", "affinity", "seam", "segmenter", "resegment"}
