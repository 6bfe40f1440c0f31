"""The three losses of SEC: against slow formulas, the released port, and hostile values."""

from math import log

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from loss import constrain_loss, decay_for, expand_loss, floor_softmax, rank_pool, seed_loss


def sample(seed=0, size=(3, 4, 3, 5), scale=2.0):
    """Scores, tags and cues of a small random batch, float64."""
    generator = torch.Generator().manual_seed(seed)
    logit = scale * torch.randn(size, generator=generator, dtype=torch.float64)
    tag = (torch.rand(size[0], size[1] - 1, generator=generator) < 0.5).double()
    cue = torch.rand(size, generator=generator) < 0.2
    return floor_softmax(logit), tag, cue


def slow_rank_pool(values, decay):
    ordered = sorted(values, reverse=True)
    top = sum(decay**rank * value for rank, value in enumerate(ordered))
    return top / sum(decay**rank for rank in range(len(ordered)))


def slow_expand(score, tag, foreground, background):
    """`foreground` is one decay for all classes, or a list of one for each."""
    each = foreground if isinstance(foreground, list) else [foreground] * tag.shape[1]
    total = 0.0
    for image, present in zip(score.tolist(), tag.tolist()):
        flat = [[value for row in channel for value in row] for channel in image]
        inside = [k + 1 for k, on in enumerate(present) if on]
        outside = [k + 1 for k, on in enumerate(present) if not on]
        if inside:
            pooled = [slow_rank_pool(flat[k], each[k - 1]) for k in inside]
            total -= sum(map(log, pooled)) / len(inside)
        if outside:
            total -= sum(log(1 - max(flat[k])) for k in outside) / len(outside)
        total -= log(slow_rank_pool(flat[0], background))
    return total / len(score)


def slow_seed(score, cue):
    total = 0.0
    for image, mark in zip(score, cue):
        hits = [log(value) for value in image[mark].tolist()]
        total -= sum(hits) / len(hits) if hits else 0.0
    return total / len(score)


def slow_constrain(score, marginal):
    divergence = 0.0
    for image, target in zip(score, marginal):
        for p, q in zip(image.flatten().tolist(), target.flatten().tolist()):
            divergence += q * log(q / p)
    return divergence / (len(score) * score.shape[2] * score.shape[3])


@pytest.mark.parametrize("seed", range(4))
def test_formulas(seed):
    score, tag, cue = sample(seed)
    marginal = sample(seed + 100)[0]
    assert seed_loss(score, cue).item() == pytest.approx(slow_seed(score, cue), abs=1e-12)
    found = expand_loss(score, tag, 0.9, 0.97).item()
    assert found == pytest.approx(slow_expand(score, tag, 0.9, 0.97), abs=1e-12)
    found = constrain_loss(score, marginal, floor=0).item()
    assert found == pytest.approx(slow_constrain(score, marginal), abs=1e-12)


def test_expansion_with_a_decay_for_each_class():
    score, tag, _ = sample(5)
    decay = [0.2, 0.9, 0.99]
    value = expand_loss(score, tag, torch.tensor(decay, dtype=torch.float64), 0.97)
    assert value.item() == pytest.approx(slow_expand(score, tag, decay, 0.97), rel=1e-12)
    same = expand_loss(score, tag, torch.full((3,), 0.9, dtype=torch.float64), 0.97)
    assert same.item() == pytest.approx(expand_loss(score, tag, 0.9, 0.97).item(), rel=1e-12)


def test_gradients():
    _, tag, cue = sample()
    marginal = sample(7)[0]
    logit = torch.randn(3, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda z: seed_loss(floor_softmax(z), cue), logit)
    assert gradcheck(lambda z: expand_loss(floor_softmax(z), tag, 0.9, 0.97), logit)
    assert gradcheck(lambda z: constrain_loss(floor_softmax(z), marginal), logit)


def test_marginal_is_constant():
    score, marginal = sample(1)[0], sample(2)[0].requires_grad_()
    assert not constrain_loss(score, marginal).requires_grad


@pytest.mark.parametrize("tags", [0.0, 1.0])
@pytest.mark.parametrize("cues", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (3, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_nan(tags, cues, size, dtype):
    """No tags, all tags, no cues, all cues, one pixel, probabilities of exactly 0 and 1."""
    logit = torch.zeros(2, 4, *size, dtype=dtype)
    logit[:, 1] = 1e4
    logit.requires_grad_()
    tag = torch.full((2, 3), tags, dtype=dtype)
    cue = torch.full((2, 4, *size), cues)
    for score in (floor_softmax(logit), torch.softmax(logit, 1)):
        losses = (
            seed_loss(score, cue),
            expand_loss(score, tag, 0.996, 0.999),
            constrain_loss(score, score.detach()),
            constrain_loss(score, score.detach().flip(1)),
        )
        for loss in losses:
            (gradient,) = torch.autograd.grad(loss, logit, retain_graph=True)
            assert loss.isfinite() and gradient.isfinite().all()


def test_image_without_cues_adds_nothing():
    score, _, cue = sample()
    cue[1] = False
    rest = torch.tensor([0, 2])
    expected = seed_loss(score[rest], cue[rest]) * 2 / 3
    assert seed_loss(score, cue).item() == pytest.approx(expected.item())


def test_rank_pool_ends():
    score = sample()[0]
    assert torch.equal(rank_pool(score, 0), score.amax(dim=(2, 3)))
    assert torch.allclose(rank_pool(score, 1), score.mean(dim=(2, 3)))


@pytest.mark.parametrize("decay", [0.996, 0.999])
@pytest.mark.parametrize("positions", [400, 1681, 4096])
def test_decay_keeps_the_share_of_half_the_weight(decay, positions):
    def share(decay, count):
        weight = decay ** np.arange(count)
        return np.searchsorted(np.cumsum(weight), weight.sum() / 2) / count

    moved = share(decay_for(decay, 1681, positions), positions)
    assert moved == pytest.approx(share(decay, 1681), abs=1.5 / min(positions, 1681))


def test_floor_softmax():
    score = floor_softmax(torch.tensor([0.0, 500.0]).view(1, 2, 1, 1), floor=1e-4)
    assert score.flatten().tolist() == pytest.approx([1e-4 / 1.0002, 1.0001 / 1.0002])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_released_port(reference, dtype):
    known = reference("sec_losses")
    logit = known["fc8"].to(dtype).requires_grad_()
    score = floor_softmax(logit)
    found = {
        "seed": seed_loss(score, known["cues"]),
        "expand": expand_loss(score, known["labels"][:, 1:], 0.996, 0.999),
        "constrain": constrain_loss(score, known["crf_log"].to(dtype).exp(), floor=0),
    }
    for term, loss in found.items():
        assert loss.item() == pytest.approx(known[f"loss_{term}"].item(), rel=1e-5)
        (gradient,) = torch.autograd.grad(loss, logit, retain_graph=True)
        wanted = known[f"grad_{term}"].to(dtype)
        error = (gradient[..., ::3, ::3] - wanted).abs().max()
        assert error < 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("dtype, name", [(torch.float32, "f32"), (torch.float64, "f64")])
def test_released_port_on_all_classes(reference, dtype, name):
    known = reference("sec_losses", full=True)
    logit = known["fc8"].to(dtype).requires_grad_()
    score = floor_softmax(logit)
    tag = known["labels"][:, 0, 0, 1:]
    # These marginals carry the floor already: a second one would move the loss by 2e-5.
    marginal = known["crf_log_consistent"].to(dtype).exp()
    found = {
        "seed": seed_loss(score, known["cues"]),
        "expand": expand_loss(score, tag, 0.996, 0.999),
        "constrain_consistent": constrain_loss(score, marginal, floor=0),
    }
    found["total_consistent"] = torch.stack(list(found.values())).sum()
    for term, loss in found.items():
        assert loss.item() == pytest.approx(known[f"loss_{term}_{name}"].item(), abs=1e-5)
        (gradient,) = torch.autograd.grad(loss, logit, retain_graph=True)
        expected = known[f"grad_{term}_f32"].to(dtype)
        assert (gradient - expected).abs().max() < 1e-5 * expected.abs().max() + 1e-8
