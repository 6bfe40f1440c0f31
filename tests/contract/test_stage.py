"""What every stage must keep, whatever its method: one test each, over all smoke recipes."""

import os
import signal
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from datalist.spec import Spec, resolve
from method import STAGES, stage_class
from method.restore import restore_recipe
from network.normalise import CONVENTION
from utils import checkpoint
from utils.loop import Draws, Interrupted, Run, train

CASES = [
    (name, recipe) for name in STAGES for recipe in stage_class(name).recipes if "smoke" in recipe
]


@pytest.fixture(params=CASES, ids="/".join)
def case(request) -> tuple[str, str]:
    return request.param


def make(case: tuple[str, str], root: Path, cue: Path, **changes):
    """Build a stage on a data set, with the files that its recipe asks for."""
    name, recipe_name = case
    kind = stage_class(name)
    recipe = kind.recipes[recipe_name]
    known = {field.name for field in fields(recipe)}
    given = {"cue": str(cue), "mask": str(root / "SegmentationClass")}
    if name == "resegment":
        given["segmenter"] = segmenter_beside(cue)
    given |= changes
    recipe = replace(recipe, dataset=str(root), **{k: v for k, v in given.items() if k in known})
    torch.manual_seed(recipe.seed)
    stage = kind(recipe, resolve(recipe.dataset))
    stage.load()
    return stage


def segmenter_beside(path: Path) -> str:
    """State dict of an untrained segmenter, written beside a file once."""
    file = path.with_name("segmenter.pt")
    if not file.exists():
        kind = stage_class("segmenter")
        spec = Spec("none", path.parent, ("background", "thing"), {})
        torch.save(kind(kind.recipes["smoke"], spec).network.state_dict(), file)
    return str(file)


def first_batch(stage) -> dict:
    data = stage.dataset()
    draws = Draws(len(data), stage.recipe.batch, 0, 1, stage.recipe.seed)
    return next(iter(DataLoader(data, batch_sampler=draws)))


def objective(stage, batch: dict, step: int = 0) -> torch.Tensor:
    terms = stage.losses(batch, step)
    assert all(term.ndim == 0 and term.dtype == torch.float32 for term in terms.values())
    assert all(term.isfinite() for term in terms.values()), terms
    return torch.stack(list(terms.values())).sum()


def run_in(out: Path) -> Run:
    return Run(out, device="cpu", quiet=True, picture_every=2)


def image_and_tag(stage, count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    size = (count, 3, *stage.recipe.size)
    image = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
    tag = torch.zeros(count, stage.num_classes - 1)
    tag[:, 0] = 1
    return image, tag


def test_loss_falls_on_one_batch(case, scenes_root, scenes_cue):
    stage = make(case, scenes_root, scenes_cue, dropout=0.0, warmup=0, steps=1000)
    batch = first_batch(stage)
    optimizer = stage.optimizer()
    stage.network.train()
    first = last = objective(stage, batch)
    for _ in range(12):
        optimizer.zero_grad()
        last.backward()
        optimizer.step()
        last = objective(stage, batch)
    assert last < 0.98 * first


def test_saved_and_loaded_scores_alike_to_the_bit(case, scenes_root, scenes_cue, tmp_path):
    stage = make(case, scenes_root, scenes_cue)
    train(stage, case[0], run_in(tmp_path))
    path = tmp_path / "last.pt"
    content = checkpoint.load(path)
    recipe = restore_recipe(path, content, type(stage.recipe))
    assert recipe == stage.recipe
    loaded = type(stage)(recipe, stage.spec)
    loaded.network.load_state_dict(content["network"])
    image, tag = image_and_tag(stage)
    scores = []
    for one in (stage, loaded):
        one.to(torch.device("cpu")).network.eval()
        scores.append(one.scores(image, tag))
    assert torch.equal(*scores)


def test_two_and_two_resumed_steps_are_four(case, scenes_root, scenes_cue, tmp_path, monkeypatch):
    train(make(case, scenes_root, scenes_cue, steps=4), case[0], run_in(tmp_path / "whole"))
    stopped = make(case, scenes_root, scenes_cue, steps=4)
    losses = stopped.losses

    def interrupted(batch, step):
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses(batch, step)

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
    stage = make(case, scenes_root, scenes_cue, optimizer="sgd", lr=1.0)
    rate = {id(p): group["lr"] for group in stage.groups() for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in stage.groups() for p in group["params"]}
    new = {id(p) for module in stage.heads() for p in module.parameters()}
    for p in stage.network.parameters():
        if p.requires_grad:
            bias = p.ndim == 1
            factor = stage.recipe.bias_factor if bias else 1.0
            expected = (10.0 if id(p) in new else 1.0) * factor
            assert rate[id(p)] == expected
            decays = stage.recipe.decay_biases or not bias
            assert decay[id(p)] == (stage.recipe.weight_decay if decays else 0.0)


def test_learning_rate_is_cut_after_the_plateau_and_not_at_step_0(case, scenes_root, scenes_cue):
    changes = {"policy": "step", "warmup": 0, "decay_every": 3, "decay_factor": 0.1}
    stage = make(case, scenes_root, scenes_cue, **changes)
    optimizer = stage.optimizer()
    base = [group["lr"] for group in stage.groups()]
    schedule = stage.schedule(optimizer)
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
    red = torch.zeros(1, 3, *stage.recipe.size, dtype=torch.uint8)
    red[:, 0] = 255
    stage.network.eval()
    stage.scores(red, torch.ones(1, stage.num_classes - 1))
    expected = {
        "torchvision": [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225],
        "caffe": [-104.0, -117.0, 255 - 123.0],
    }[convention]
    assert seen[0][0, :, 5, 5].tolist() == pytest.approx(expected, abs=1e-3)


def test_five_classes_and_odd_sizes_work(case, four_root, four_cue, tmp_path):
    stage = make(case, four_root, four_cue, size=(37, 50), batch=3, steps=3)
    assert stage.num_classes == 5
    train(stage, case[0], run_in(tmp_path))
    stage.network.eval()
    image, tag = image_and_tag(stage)
    score = stage.scores(image, tag)
    assert score.shape[:2] == (2, 5 if stage.background else 4)
    assert score.min() >= 0 and score.max() <= 1
    if stage.background:
        torch.testing.assert_close(score.sum(1), torch.ones_like(score[:, 0]))
