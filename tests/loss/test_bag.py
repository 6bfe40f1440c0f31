"""Tags of whole pictures on their tiles: against slow formulas, and what their gradient reaches."""

from math import exp, log

import pytest
import torch
from test_sec_losses import slow_expand, slow_rank_pool
from torch.autograd import gradcheck
from torch.nn.functional import multilabel_soft_margin_loss

from loss import bag_tag_loss, bag_weight, expand_loss, floor_softmax

BAG = torch.tensor([7, 3, 7, 7, 0, 3])


def tiles(seed=0, classes=4):
    """Logits, scores and tags of six tiles of three pictures, float64."""
    generator = torch.Generator().manual_seed(seed)
    logit = torch.randn(6, classes, 3, 5, generator=generator, dtype=torch.float64)
    rows = torch.rand(8, classes - 1, generator=generator) < 0.5
    return logit, floor_softmax(2 * logit), rows[BAG].double()


def members():
    return {bag: [i for i, own in enumerate(BAG.tolist()) if own == bag] for bag in (0, 3, 7)}


def slow_tag_loss(logit, tag):
    total = 0.0
    for inside in members().values():
        for k in range(logit.shape[1]):
            column = [logit[i, k].item() for i in inside]
            if tag[inside[0], k]:
                total += log(1 + exp(-max(column)))
            else:
                total += sum(log(1 + exp(x)) for x in column) / len(column)
    return total / logit.shape[1]


def slow_bag_expand(score, tag, foreground, background):
    total = 0.0
    for inside in members().values():
        flat = score[inside].flatten(2).tolist()
        present = [k + 1 for k in range(tag.shape[1]) if tag[inside[0], k]]
        absent = [k + 1 for k in range(tag.shape[1]) if not tag[inside[0], k]]
        for k in present:
            total -= log(max(slow_rank_pool(x[k], foreground) for x in flat)) / len(present)
        for k in absent:
            total -= sum(log(1 - max(x[k])) for x in flat) / len(flat) / len(absent)
        total -= log(max(slow_rank_pool(x[0], background) for x in flat))
    return total / 3


@pytest.mark.parametrize("seed", range(4))
def test_formulas(seed):
    logit, score, tag = tiles(seed)
    pooled = logit[:, 1:].mean((2, 3))
    total, count = bag_tag_loss(pooled, tag, BAG)
    assert count == 3
    assert total.item() == pytest.approx(slow_tag_loss(pooled, tag), abs=1e-12)
    found = expand_loss(score, tag, 0.9, 0.97, BAG).item()
    assert found == pytest.approx(slow_bag_expand(score, tag, 0.9, 0.97), abs=1e-12)
    each = torch.full((3,), 0.9, dtype=torch.float64)
    assert expand_loss(score, tag, each, 0.97, BAG).item() == pytest.approx(found, rel=1e-12)


def test_an_image_alone_in_its_bag_is_an_image():
    logit, score, tag = tiles(5)
    alone = torch.tensor([4, 2, 9, 0, 1, 3])
    total, count = bag_tag_loss(logit[:, 1:, 0, 0], tag, alone)
    expected = multilabel_soft_margin_loss(logit[:, 1:, 0, 0], tag)
    assert (total / count).item() == pytest.approx(expected.item(), rel=1e-12)
    expected = slow_expand(score, tag, 0.9, 0.97)
    assert expand_loss(score, tag, 0.9, 0.97, alone).item() == pytest.approx(expected, rel=1e-12)


def test_gradients():
    logit, _, tag = tiles(2)
    logit.requires_grad_()
    assert gradcheck(lambda z: bag_tag_loss(z[:, 1:].mean((2, 3)), tag, BAG)[0], logit)
    assert gradcheck(lambda z: expand_loss(floor_softmax(z), tag, 0.9, 0.97, BAG), logit)


def test_one_tile_learns_what_the_picture_shows_and_all_learn_what_it_does_not():
    logit = torch.tensor([[1.0, 0.2], [3.0, 0.1], [2.0, -1.0]], requires_grad=True)
    tag = torch.tensor([[1.0, 0.0]]).expand(3, 2)
    bag_tag_loss(logit, tag, torch.zeros(3, dtype=torch.long))[0].backward()
    assert logit.grad[:, 0].nonzero().flatten().tolist() == [1] and logit.grad[1, 0] < 0
    assert (logit.grad[:, 1] > 0).all()


def test_weights_of_equal_scores_and_hostile_ones():
    tag = torch.tensor([[1.0, 1.0, 0.0]]).expand(4, 3)
    score = torch.tensor([[2.0, -9e9, 0.0], [2.0, -9e9, 1.0], [1.0, -9e9, 5.0], [-1.0, 0.0, 0.0]])
    weight = bag_weight(score, tag, torch.tensor([0, 0, 0, 1]))
    expected = [[0.5, 1 / 3, 1 / 3], [0.5, 1 / 3, 1 / 3], [0.0, 1 / 3, 1 / 3], [1.0, 1.0, 1.0]]
    assert torch.allclose(weight, torch.tensor(expected))


@pytest.mark.parametrize("tags", [0.0, 1.0])
def test_no_nan(tags):
    logit = torch.zeros(3, 4, 1, 1)
    logit[:, 1] = 1e4
    logit.requires_grad_()
    tag, bag = torch.full((3, 3), tags), torch.zeros(3, dtype=torch.long)
    losses = [expand_loss(torch.softmax(logit, 1), tag, 0.996, 0.999, bag)]
    losses.append(bag_tag_loss(logit[:, 1:, 0, 0], tag, bag)[0])
    for loss in losses:
        (grad,) = torch.autograd.grad(loss, logit, retain_graph=True)
        assert loss.isfinite() and grad.isfinite().all()
