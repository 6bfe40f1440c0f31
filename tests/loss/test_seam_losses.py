"""SEAM's losses and Dice against their formulas, one number after the other."""

from math import exp, log

import pytest
import torch

from base.tensor import max_norm
from loss.dice import dice_loss
from loss.seam import cross_equivariance_loss, equivariance_loss, max_onehot, rvmin_loss, tag_loss


@pytest.fixture
def maps():
    """Two sets of maps in [0, 1], of three images, float64."""
    rng = torch.Generator().manual_seed(5)
    return torch.rand(2, 3, 4, 5, 7, generator=rng, dtype=torch.float64).unbind()


@pytest.mark.parametrize("tags", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]])
def test_tag_loss(tags):
    rng = torch.Generator().manual_seed(1)
    cam = 3 * torch.randn(2, 4, 3, 3, generator=rng, dtype=torch.float64)
    total = 0.0
    for image in cam.tolist():
        for rows, tag in zip(image, tags):
            mean = sum(map(sum, rows)) / 9
            chance = 1 / (1 + exp(-mean))
            total -= log(chance if tag else 1 - chance) / 4 / 2
    found = tag_loss(cam, torch.tensor([tags, tags]))
    assert float(found) == pytest.approx(total)


def test_tag_loss_of_maps_pooled_by_rank():
    rng = torch.Generator().manual_seed(1)
    cam = torch.randn(2, 3, 4, 5, generator=rng, dtype=torch.float64)
    tag = torch.tensor([[0, 1, 0], [1, 1, 0]])
    decay = 0.99 ** (41 * 41 / 20)  # of 4 x 5 positions instead of 41 x 41
    total = 0.0
    for image, tags in zip(cam.flatten(2).tolist(), tag.tolist()):
        for values, own in zip(image, tags):
            weights = [decay**rank for rank in range(20)]
            pooled = sum(w * v for w, v in zip(weights, sorted(values, reverse=True)))
            chance = 1 / (1 + exp(-pooled / sum(weights)))
            total -= log(chance if own else 1 - chance) / 3 / 2
    assert float(tag_loss(cam, tag, 0.99)) == pytest.approx(total)


@pytest.mark.parametrize("share", [0.25, 1.0, 1e-9])
def test_rvmin_loss(maps, share):
    maps[0][2] = 0  # no tag: no map
    total = 0.0
    for image in maps[0].tolist():
        highest = sorted(max(image[k][y][x] for k in range(4)) for y in range(5) for x in range(7))
        kept = highest[: max(1, int(share * 35))]
        total += sum(max(v, 0) for v in kept) / len(kept) / 3
    assert float(rvmin_loss(maps[0], share)) == pytest.approx(total)


def test_equivariance_loss(maps):
    pairs = zip(maps[0].flatten().tolist(), maps[1].flatten().tolist())
    total = sum(abs(a - b) for a, b in pairs) / maps[0].numel()
    assert float(equivariance_loss(*maps)) == pytest.approx(total)


def slow_cross(refined, other, share, first):
    """`first` is the first foreground channel."""
    total = 0.0
    for mine, theirs in zip(refined.tolist(), other.tolist()):
        distance = []
        for y in range(5):
            for x in range(7):
                best = max(theirs[k][y][x] for k in range(first, 4))
                for k in range(4):
                    target = theirs[k][y][x] if k < first or theirs[k][y][x] == best else 0
                    distance.append(abs(target - mine[k][y][x]))
        kept = sorted(distance)[-max(1, int(share * len(distance))) :]
        total += sum(kept) / len(kept) / len(refined)
    return total


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("share", [0.2, 1.0, 1e-9])
def test_cross_equivariance_loss(maps, share, background):
    refined, other = maps
    found = cross_equivariance_loss(refined, other.requires_grad_(), share, background)
    assert float(found) == pytest.approx(slow_cross(refined, other, share, int(background)))
    assert not found.requires_grad  # the other view is a target


def test_max_onehot_keeps_ties():
    score = torch.tensor([[[[0.5, 0.1]], [[0.5, 0.3]], [[0.2, 0.3]]]])
    kept = torch.tensor([[[[0.5, 0.1]], [[0.5, 0.3]], [[0.0, 0.3]]]])
    assert max_onehot(score).equal(kept)
    kept = torch.tensor([[[[0.5, 0.0]], [[0.5, 0.3]], [[0.0, 0.3]]]])
    assert max_onehot(score, background=False).equal(kept)


@pytest.mark.parametrize("name", ["seam_losses", "locate_losses"])
def test_parts_equal_the_released_ones(reference, name):
    data = reference(name)
    found = max_onehot(data["in_maps"], background=name == "seam_losses")
    assert found.equal(data["out_onehot"])
    if name == "seam_losses":
        found = max_norm(data["in_maps"] - 0.2)
        torch.testing.assert_close(found, data["out_max_norm"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_dice_loss(maps, masked):
    first, second = maps[0][:, 0], maps[1][:, 0]
    valid = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0)) < 0.6
    valid[2] = False
    total = 0.0
    for a, b, v in zip(first.tolist(), second.tolist(), valid.tolist()):
        both = each = 0.0
        for y in range(5):
            for x in range(7):
                if v[y][x] or not masked:
                    both += a[y][x] * b[y][x]
                    each += a[y][x] + b[y][x]
        total += (1 - (2 * both + 1) / (each + 1)) / 3
    assert float(dice_loss(first, second, valid if masked else None)) == pytest.approx(total)


def test_dice_of_empty_and_of_equal_masks():
    empty, full = torch.zeros(1, 4, 4), torch.ones(1, 4, 4)
    assert dice_loss(empty, empty) == 0
    assert dice_loss(full, full) == 0
    assert dice_loss(full, empty) == pytest.approx(1 - 1 / 17)
    with pytest.raises(ValueError, match="same shape"):
        dice_loss(full, full[0])


def test_gradients(maps):
    a, b = (m.clone().requires_grad_() for m in maps)
    assert torch.autograd.gradcheck(lambda x, y: dice_loss(x[:, 0], y[:, 0]), (a, b))
    assert torch.autograd.gradcheck(equivariance_loss, (a, b))
    assert torch.autograd.gradcheck(lambda x: rvmin_loss(x, 0.25), a)
    assert torch.autograd.gradcheck(lambda x: cross_equivariance_loss(x, maps[1]), a)
    tag = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]])
    assert torch.autograd.gradcheck(lambda x: tag_loss(x, tag), a)
