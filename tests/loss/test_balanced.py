"""DSRG's two losses against their formulas and against the values of its Theano layers."""

from math import log

import pytest
import torch

from loss import balanced_seed_loss, constrain_loss, floor_softmax

CLIP = (0.05, 20.0)


@pytest.fixture
def problem():
    """Scores, seeds (dense, background alone, foreground alone, none) and marginals, float64."""
    rng = torch.Generator().manual_seed(3)
    logit = 4 * torch.randn(4, 3, 2, 5, generator=rng, dtype=torch.float64)
    seed = torch.rand(4, 3, 2, 5, generator=rng) < 0.3
    seed[1, 1:] = False
    seed[2, 0] = False
    seed[3] = False
    other = 4 * torch.randn(4, 3, 2, 5, generator=rng, dtype=torch.float64)
    return logit.softmax(1), seed, other.softmax(1)


def slow_balanced(score, seed):
    total = 0.0
    for p, s in zip(score.tolist(), seed.tolist()):
        for part in ([0], range(1, len(p))):
            logs = [
                log(p[c][y][x])
                for c in part
                for y in range(len(p[0]))
                for x in range(len(p[0][0]))
                if s[c][y][x]
            ]
            total -= sum(logs) / max(len(logs), 1e-4)
    return total / len(score)


def slow_constrain(score, marginal, floor):
    total, positions = 0.0, score[:, 0].numel()
    for p, q in zip(score.movedim(1, -1).reshape(-1, 3), marginal.movedim(1, -1).reshape(-1, 3)):
        raised = [max(value, floor) for value in q.tolist()]
        for a, b in zip(raised, p.tolist()):
            ratio = a / sum(raised) / b
            total += a / sum(raised) * log(min(max(ratio, CLIP[0]), CLIP[1]))
    return total / positions


def test_values(problem):
    score, seed, marginal = problem
    assert balanced_seed_loss(score, seed).item() == pytest.approx(slow_balanced(score, seed))
    ratio = marginal.clamp_min(1e-4) / score
    assert (ratio < CLIP[0]).any() and (ratio > CLIP[1]).any(), "the clip has nothing to do"
    found = constrain_loss(score, marginal, 1e-4, CLIP).item()
    assert found == pytest.approx(slow_constrain(score, marginal, 1e-4))


def test_a_clip_that_never_binds_changes_nothing(problem):
    score, _, marginal = problem
    plain = constrain_loss(score, marginal)
    assert constrain_loss(score, marginal, clip=(1e-9, 1e9)).item() == pytest.approx(plain.item())


def test_gradients(problem):
    score, seed, marginal = problem
    logit = score.log().requires_grad_()  # scores near 0 bend too much for finite differences

    def losses(z):
        score = z.softmax(1)
        return balanced_seed_loss(score, seed), constrain_loss(score, marginal, 1e-4, CLIP)

    assert torch.autograd.gradcheck(losses, logit)


def test_an_image_without_seeds_gives_no_gradient(problem):
    score, seed, _ = problem
    score = score.requires_grad_()
    balanced_seed_loss(score, seed).backward()
    assert score.grad[3].abs().sum() == 0
    assert score.grad[:3].abs().sum() > 0


def test_zero_scores_stay_finite():
    score = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).requires_grad_()
    seed = torch.ones(1, 2, 1, 1, dtype=torch.bool)
    marginal = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
    loss = balanced_seed_loss(score, seed) + constrain_loss(score, marginal, clip=CLIP)
    loss.backward()
    assert loss.isfinite() and score.grad.isfinite().all()


def test_gradients_equal_the_released_layers_ones(reference):
    data = reference("dsrg")
    # Alone in its batch each image's loss is the released batch's share of it.
    for score, seed, wanted in zip(data["probs"], data["seeds_from_refined"], data["seed_grad"]):
        score = score[None].requires_grad_()
        (found,) = torch.autograd.grad(balanced_seed_loss(score, seed[None]), score)
        torch.testing.assert_close(found[0], wanted, rtol=1e-5, atol=1e-8)
    score = data["position_probs"][None, :, None].requires_grad_()
    marginal = data["position_crf_log"].exp()[None, :, None]
    (found,) = torch.autograd.grad(constrain_loss(score, marginal, 0, CLIP), score)
    count = score.shape[-1]
    torch.testing.assert_close(found[0, :, 0] * count, data["position_grad"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_released_layers(reference, dtype):
    data = reference("dsrg", full=True)
    logit = data["logits"].to(dtype).requires_grad_()
    score = floor_softmax(logit, data["min_prob"].item())
    assert torch.allclose(score, data["probs"].to(dtype), rtol=0, atol=1e-5)
    marginal = data["crf_log"].exp()
    losses = {
        "balanced_seed": balanced_seed_loss(score, data["seeds_from_refined"]),
        "constrain": constrain_loss(score, marginal, 0, CLIP),
    }
    gradient = {
        "balanced_seed": "balanced_seed_grad_logits_f32",
        "constrain": "constrain_grad_logits_no_crf_path_f32",
    }
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(data[f"{name}_loss_f64"].item(), abs=1e-5)
        (by_score, by_logit) = torch.autograd.grad(loss, (score, logit), retain_graph=True)
        for found, key in ((by_score, f"{name}_grad_probs_f32"), (by_logit, gradient[name])):
            wanted = data[key].to(dtype)
            error = (found - wanted).norm() / wanted.norm()
            assert error < 1e-5, (name, key)
