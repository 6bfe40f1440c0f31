"""The last stage on pseudo masks: what it keeps at test, and its parameter groups."""

from dataclasses import replace

import pytest
import torch
from recipes import change

from datalist.spec import resolve
from method import STAGES, stage_class
from method.deeplab import DeepLab


def test_classes_that_are_faint_everywhere_are_left_out(scenes_root, monkeypatch):
    stage = DeepLab(DeepLab.recipes["smoke"], resolve("scenes", scenes_root))
    scores = {4: torch.full((2, 7, 4, 4), 0.01), 8: torch.full((2, 7, 8, 8), 0.03)}
    for score in scores.values():
        score[0, 2, 1:, 1:], score[1, 5] = 0.9, 0.5
    monkeypatch.setattr("method.deeplab.softmax_score", lambda _: lambda x: scores[x.shape[-1]])
    images = [torch.zeros(2, 3, side, side) for side in scores]
    merged = stage.predict(images, None, mirror=False)
    assert merged.shape == (2, 7, 8, 8)
    kept = merged.flatten(2).any(2)
    assert kept.nonzero().tolist() == [[0, 2], [1, 5]]
    assert merged[1, 5].eq(0.5).all()


@pytest.mark.parametrize("name", ["affinity", "deeplab", "rsepm", "sec"])
def test_parameter_groups_of_the_published_solvers(scenes_root, name):
    """SEC's Caffe solver: biases x2 without decay; DHR and IRN: the rate of weights, with decay."""
    assert name in STAGES
    kind = stage_class(name)
    paper = kind.recipes["paper"].solver
    recipe = replace(kind.recipes["smoke"], solver=paper)
    stage = kind(change(recipe, dataset=str(scenes_root)), resolve("scenes", scenes_root))
    modules = [stage.network.get_submodule(part) for part in stage.network.new]
    heads = {id(p) for module in modules for p in module.parameters()}
    found = {
        (group["lr"] / paper.lr, group["weight_decay"], id(p) in heads, p.ndim == 1)
        for group in stage.groups()
        for p in group["params"]
    }
    factor, decay = (2, 0.0) if name == "sec" else (1, paper.weight_decay)
    wanted = {(10, paper.weight_decay, True, False), (10 * factor, decay, True, True)}
    wanted |= {(1, paper.weight_decay, False, False), (factor, decay, False, True)}
    assert {(round(rate), *rest) for rate, *rest in found} == wanted
