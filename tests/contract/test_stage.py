"""What every stage must keep, whatever its method: one test each, over all smoke recipes."""

import os
import signal
from pathlib import Path

import pytest
import torch
from recipes import change_known, recipe_of
from torch import nn
from torch.utils.data import DataLoader

from base.contract import Context
from datalist.spec import Spec, resolve
from method import STAGES, stage_class
from method.restore import restore_recipe
from network.normalise import CONVENTION
from utils import checkpoint
from utils.draws import Draws
from utils.flags import Train
from utils.loop import Interrupted, train
from utils.solver import build_optimizer, build_schedule

CASES = [
    (name, recipe) for name in STAGES for recipe in stage_class(name).recipes if "smoke" in recipe
]
CASES += [(name, "photo-timm") for name in STAGES if "photo" in stage_class(name).recipes]
MAPS = ("cam", "cue-foreground", "seam", "rsepm", "deeplab")
"""Stages whose scores do not sum to 1: maps beside a background, or faint classes set to 0."""


@pytest.fixture(params=CASES, ids="/".join)
def case(request) -> tuple[str, str]:
    return request.param


def make(case: tuple[str, str], root: Path, cue: Path, **changes):
    """Build a stage on a data set, with the files that its recipe asks for."""
    name, recipe_name = case
    kind = stage_class(name)
    masks = str(root / "SegmentationClass")
    # A cue file holds cues of whole images, and photographs are cut; rsepm takes masks only.
    given = {
        "dataset": str(root),
        "mask": masks,
        "cue": masks if "photo" in recipe_name or name == "rsepm" else str(cue),
    }
    if name == "resegment":
        segmenter = segmenter_beside(cue, recipe_name)
        given |= {"segmenter_checkpoint": segmenter, "steps": 4}  # it trains, too
    recipe = change_known(recipe_of(name, recipe_name), **{**given, **changes})
    torch.manual_seed(recipe.solver.seed)
    stage = kind(recipe, resolve(recipe.data.dataset))
    stage.load()
    return stage


def segmenter_beside(path: Path, recipe: str) -> str:
    """State dict of an untrained segmenter of a recipe, written beside a file once."""
    file = path.with_name(f"segmenter-{recipe}.pt")
    if not file.exists():
        kind = stage_class("segmenter")
        spec = Spec("none", path.parent, ("background", "thing"), {})
        torch.save(kind(recipe_of("segmenter", recipe), spec).network.state_dict(), file)
    return str(file)


def test_no_layer_is_one_that_onednn_breaks(case, four_root, four_cue):
    """Fewer than 8 channels into a strided 1 x 1 convolution corrupt the heap without AVX-512."""
    for name, layer in make(case, four_root, four_cue).network.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.stride != (1, 1):
            assert layer.in_channels // layer.groups >= 8, name


def first_batch(stage) -> dict:
    data = stage.dataset()
    draws = Draws(len(data), stage.recipe.solver.batch, 0, 1, stage.recipe.solver.seed)
    return next(iter(DataLoader(data, batch_sampler=draws)))


def objective(stage, batch: dict) -> torch.Tensor:
    terms = stage.losses(batch, Context())
    assert all(term.ndim == 0 and term.dtype == torch.float32 for term in terms.values())
    assert all(term.isfinite() for term in terms.values()), terms
    return torch.stack(list(terms.values())).sum()


def run_in(out: Path) -> Train:
    return Train(out, device="cpu", quiet=True, picture_every=2)


def image_and_tag(stage, count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    size = (count, 3, *stage.recipe.data.size)
    image = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
    tag = torch.zeros(count, stage.num_classes - 1)
    tag[:, 0] = 1
    return image, tag


def outputs(stage) -> list[torch.Tensor]:
    """Everything that a stage makes of two images in evaluation mode."""
    image, tag = image_and_tag(stage)
    stage.network.to("cpu", memory_format=torch.channels_last).eval()
    with torch.inference_mode():
        output = stage.network(image)
        made = list(output) if isinstance(output, tuple) else [output]
        if "predict" in stage.can:
            made += [stage.predict([image], tag, False), stage.predict([image], None, True)]
        if "cue" in stage.can:
            made.append(stage.cues(image, tag))
    return made


def test_loss_falls_on_one_batch(case, scenes_root, scenes_cue):
    still = {"dropout": 0.0, "drop": 0.0, "decoder.dropout": 0.0, "warmup": 0}
    fast = {"optimizer": "adamw", "lr": 1e-2, "head_factor": 1.0, "bias_factor": 1.0}
    stage = make(case, scenes_root, scenes_cue, **still, **fast, steps=1000)
    batch = first_batch(stage)
    optimizer = build_optimizer(stage.recipe.solver, stage.groups(), fused=False)
    stage.network.train()
    first = last = objective(stage, batch)
    for _ in range(12):
        optimizer.zero_grad()
        last.backward()
        optimizer.step()
        last = objective(stage, batch)
    assert last < 0.9 * first


def test_saved_and_loaded_predicts_alike_to_the_bit(case, scenes_root, scenes_cue, tmp_path):
    stage = make(case, scenes_root, scenes_cue)
    train(stage, case[0], run_in(tmp_path))
    path = tmp_path / "last.pt"
    content = checkpoint.load(path)
    recipe = restore_recipe(path, content["recipe"], type(stage.recipe))
    assert recipe == stage.recipe
    loaded = type(stage)(recipe, stage.spec)
    loaded.network.load_state_dict(content["network"])
    for before, after in zip(outputs(stage), outputs(loaded), strict=True):
        assert torch.equal(before, after)


def test_two_and_two_resumed_steps_are_four(case, scenes_root, scenes_cue, tmp_path, monkeypatch):
    train(make(case, scenes_root, scenes_cue, steps=4), case[0], run_in(tmp_path / "whole"))
    stopped = make(case, scenes_root, scenes_cue, steps=4)
    losses = stopped.losses

    def interrupted(batch, context):
        if context.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses(batch, context)

    monkeypatch.setattr(stopped, "losses", interrupted)
    with pytest.raises(Interrupted):
        train(stopped, case[0], run_in(tmp_path / "halves"))
    assert checkpoint.load(tmp_path / "halves/last.pt")["step"] == 2
    train(make(case, scenes_root, scenes_cue, steps=4), case[0], run_in(tmp_path / "halves"))
    whole, halves = (
        checkpoint.load(tmp_path / name / "last.pt")["network"] for name in ("whole", "halves")
    )
    assert whole.keys() == halves.keys()
    assert all(torch.equal(whole[key], halves[key]) for key in whole)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "halves")]
    assert logs[0] == logs[1]


def test_each_trainable_parameter_is_in_one_group(case, scenes_root, scenes_cue):
    stage = make(case, scenes_root, scenes_cue)
    grouped = [id(p) for group in stage.groups() for p in group["params"]]
    trainable = [id(p) for p in stage.network.parameters() if p.requires_grad]
    assert sorted(grouped) == sorted(trainable)


def test_new_layers_learn_ten_times_as_fast(case, scenes_root, scenes_cue):
    factors = {"lr": 1.0, "head_factor": 10.0, "bias_factor": 2.0, "decay_all": False}
    stage = make(case, scenes_root, scenes_cue, **factors)
    rate = {id(p): group["lr"] for group in stage.groups() for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in stage.groups() for p in group["params"]}
    modules = [stage.network.get_submodule(name) for name in stage.network.new]
    new = {id(p) for module in modules for p in module.parameters()}
    assert new & rate.keys()
    for p in stage.network.parameters():
        if p.requires_grad:
            expected = (10.0 if id(p) in new else 1.0) * (2.0 if p.ndim == 1 else 1.0)
            assert rate[id(p)] == expected
            assert decay[id(p)] == (0.0 if p.ndim == 1 else stage.recipe.solver.weight_decay)


def test_learning_rate_is_cut_after_the_plateau_and_not_at_step_0(case, scenes_root, scenes_cue):
    changes = {"policy": "step", "warmup": 0, "decay_every": 3, "decay_factor": 0.1}
    stage = make(case, scenes_root, scenes_cue, **changes)
    optimizer = build_optimizer(stage.recipe.solver, stage.groups(), fused=False)
    base = [group["lr"] for group in stage.groups()]
    schedule = build_schedule(stage.recipe.solver, optimizer, 5)
    seen = []
    for _ in range(5):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    for step, factor in ((0, 1), (1, 1), (2, 1), (3, 0.1), (4, 0.1)):
        assert seen[step] == pytest.approx([factor * lr for lr in base])


@pytest.mark.parametrize("convention", CONVENTION)
def test_red_reaches_the_first_convolution_as_the_weights_expect(
    case, scenes_root, scenes_cue, convention
):
    stage = make(case, scenes_root, scenes_cue, convention=convention)
    seen = []
    first = next(m for m in stage.network.modules() if isinstance(m, nn.Conv2d))
    first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    red = torch.zeros(1, 3, *stage.recipe.data.size, dtype=torch.uint8)
    red[:, 0] = 255
    stage.network.eval().requires_grad_(True)  # frozen trunks run as a copy
    stage.network(red)
    expected = {
        "torchvision": [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225],
        "caffe": [-104.0, -117.0, 255 - 123.0],
    }[convention]
    if case[1] == "photo-timm":  # timm names its network's mean and deviation, here all 0.5
        expected = [1.0, -1.0, -1.0]
    assert seen[0][0, :, 5, 5].tolist() == pytest.approx(expected, abs=1e-3)


def test_five_classes_and_odd_sizes_work(case, four_root, four_cue, tmp_path):
    stage = make(case, four_root, four_cue, size=(37, 50), batch=3, steps=3)
    assert stage.num_classes == 5
    train(stage, case[0], run_in(tmp_path))
    stage.network.eval()
    if "predict" not in stage.can:
        return
    image, tag = image_and_tag(stage)
    with torch.inference_mode():
        score = stage.predict([image, image[:, :, ::2, ::2]], tag, True)
    assert score.shape[:2] == (2, 5)
    assert score.min() >= 0 and score.max() <= 1
    if case[0] not in MAPS:
        torch.testing.assert_close(score.sum(1), torch.ones_like(score[:, 0]))
