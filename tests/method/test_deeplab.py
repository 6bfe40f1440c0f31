"""The last stage on pseudo masks: what it keeps at test, and its parameter groups."""

from dataclasses import replace

import pytest
import torch

from datalist.spec import resolve
from method import STAGES, stage_class
from method.deeplab import DeepLab


def test_classes_that_are_faint_everywhere_are_left_out(scenes_root):
    stage = DeepLab(DeepLab.recipes["smoke"], resolve("scenes", scenes_root))
    scores = [torch.full((2, 7, 4, 4), 0.01), torch.full((2, 7, 8, 8), 0.03)]
    for score in scores:
        score[0, 2, 1:, 1:], score[1, 5] = 0.9, 0.5
    merged = stage.merge(scores)
    assert merged.shape == (2, 7, 8, 8)
    kept = merged.flatten(2).any(2)
    assert kept.nonzero().tolist() == [[0, 2], [1, 5]]
    assert merged[1, 5].eq(0.5).all()


@pytest.mark.parametrize("name", ["affinity", "deeplab", "rsepm", "sec"])
def test_parameter_groups_of_the_published_solvers(scenes_root, name):
    """SEC's Caffe solver: biases x2 without decay; DHR and IRN: the rate of weights, with decay."""
    assert name in STAGES
    kind = stage_class(name)
    paper = kind.recipes["paper"]
    fields = ("optimizer", "lr", "weight_decay", "decay_biases", "bias_factor")
    solver = {field: getattr(paper, field) for field in fields}
    stage = kind(replace(kind.recipes["smoke"], **solver), resolve("scenes", scenes_root))
    heads = {id(p) for module in stage.heads() for p in module.parameters()}
    found = {
        (group["lr"] / paper.lr, group["weight_decay"], id(p) in heads, p.ndim == 1)
        for group in stage.groups()
        for p in group["params"]
    }
    factor, decay = (2, 0.0) if name == "sec" else (1, paper.weight_decay)
    wanted = {(10, paper.weight_decay, True, False), (10 * factor, decay, True, True)}
    wanted |= {(1, paper.weight_decay, False, False), (factor, decay, False, True)}
    assert {(round(rate), *rest) for rate, *rest in found} == wanted
