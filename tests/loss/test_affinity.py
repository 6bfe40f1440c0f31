"""Pair affinities, their loss and the random walk, against slow scalar code and IRN."""

import math

import pytest
import torch

from base import UserError
from loss.affinity import affinity_terms
from refine.affinity import displacements, pairs, path, random_walk


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scalar_path(first, second):
    """Pixels whose distance to the line through two pixels is below 1, in their rectangle."""
    (y0, x0), (y1, x1) = first, second
    for y in range(min(y0, y1), max(y0, y1) + 1):
        for x in range(min(x0, x1), max(x0, x1) + 1):
            area = abs((y1 - y0) * (x - x0) - (x1 - x0) * (y - y0))
            if area / math.dist(first, second) < 1 - 1e-9:
                yield y, x


def scalar_affinity(boundary, first, second):
    return 1 - max(boundary[y, x].item() for y, x in scalar_path(first, second))


def all_pairs(height, width, radius):
    places = [(y, x) for y in range(height) for x in range(width)]
    for k, first in enumerate(places):
        for second in places[k + 1 :]:
            if math.dist(first, second) < radius:
                yield first, second


def inner_pairs(height, width, radius):
    """Those whose upper pixel has its whole neighbourhood inside."""
    for first, second in all_pairs(height, width, radius):
        if first[0] <= height - radius and radius - 1 <= first[1] <= width - radius:
            yield first, second


def test_each_pair_once_and_in_its_place():
    boundary = random(2, 6, 8)
    found = {}
    for (down, right), affinity in pairs(boundary, 3):
        assert affinity.shape == (2, 4, 4)
        for y in range(4):
            for x in range(4):
                key = ((y, x + 2), (y + down, x + 2 + right))
                assert key not in found
                found[key] = affinity[:, y, x]
    assert set(found) == set(inner_pairs(6, 8, 3))
    for (first, second), value in found.items():
        for n in range(2):
            assert value[n].item() == pytest.approx(scalar_affinity(boundary[n], first, second))


@pytest.mark.parametrize("radius, count", [(5, 34), (10, 152)])
def test_paths_are_the_released_ones(reference, radius, count):
    rows = reference("irn_walk")[f"paths_radius_{radius}"].tolist()
    released = {tuple(row[0]): {tuple(pixel) for pixel in row if pixel[0] != 99} for row in rows}
    assert len(released) == count
    assert {step: set(path(*step)) for step in displacements(radius)} == released


def test_loss_equals_the_scalar_one():
    boundary = random(1, 5, 6).requires_grad_()
    mask = torch.tensor(
        [[[0, 0, 0, 1, 1, 1], [0, 255, 0, 1, 2, 1], [0, 0, 0, 2, 2, 2], [0, 1, 255, 2, 2, 0],
          [0, 0, 1, 1, 2, 2]]]
    )  # fmt: skip
    found = affinity_terms(boundary, mask, 3)
    expected = {"foreground": [0.0, 0], "background": [0.0, 0], "different": [0.0, 0]}
    for first, second in inner_pairs(5, 6, 3):
        a, b = mask[0][first].item(), mask[0][second].item()
        if 255 in (a, b):
            continue
        affinity = scalar_affinity(boundary[0].detach(), first, second)
        kind = "different" if a != b else "foreground" if a else "background"
        value = -math.log((1 - affinity if a != b else affinity) + 1e-5)
        expected[kind][0] += value
        expected[kind][1] += 1
    for kind, (loss, count) in found.items():
        assert loss.item() == pytest.approx(expected[kind][0])
        assert count == expected[kind][1] > 0
    assert torch.autograd.gradcheck(
        lambda b: sum(loss for loss, _ in affinity_terms(b, mask, 3).values()), boundary
    )


def test_loss_equals_the_released_one(reference):
    data = reference("irn_affinity")
    logit = data["boundary_logit"].requires_grad_()
    terms = affinity_terms(logit.sigmoid()[:, 0], data["mask"].long(), int(data["radius"]))
    names = ("background", "foreground", "different")
    assert [terms[name][1].item() for name in names] == data["pairs"].tolist()
    background, foreground, different = (terms[name][0] / terms[name][1] for name in names)
    for name, loss in zip(names, (background, foreground, different)):
        assert loss.item() == pytest.approx(data[name].item(), abs=1e-5)
    total = (background / 2 + foreground / 2 + different) / 2
    assert total.item() == pytest.approx(data["total"].item(), abs=1e-5)
    (gradient,) = torch.autograd.grad(total, logit)
    torch.testing.assert_close(gradient, data["gradient"], rtol=0, atol=1e-6)


def test_nothing_labelled_gives_zero():
    terms = affinity_terms(random(1, 5, 9), torch.full((1, 5, 9), 255), 5)
    assert all(loss == 0 and count == 0 for loss, count in terms.values())


@pytest.mark.parametrize("size", [(4, 9), (5, 8)])
def test_maps_without_a_source_are_refused(size):
    with pytest.raises(UserError, match="too small for pairs within radius 5"):
        affinity_terms(random(1, *size), torch.zeros(1, *size), 5)


def test_walk_is_the_power_of_the_scalar_matrix():
    boundary, score = random(3, 4), random(2, 3, 4, seed=1)
    n = 12
    matrix = torch.eye(n, dtype=torch.float64)
    for first, second in all_pairs(3, 4, 3):
        a, b = first[0] * 4 + first[1], second[0] * 4 + second[1]
        matrix[a, b] = matrix[b, a] = scalar_affinity(boundary, first, second) ** 2
    power = torch.linalg.matrix_power(matrix / matrix.sum(0), 8)
    start = (score * (1 - boundary)).flatten(1)
    found = random_walk(score, boundary, 3, 2, 3)
    torch.testing.assert_close(found.flatten(1), start @ power)


def test_walk_equals_the_released_one(reference):
    data = reference("irn_walk")
    walked = random_walk(data["score"], data["edge"])
    torch.testing.assert_close(walked, data["walked"], rtol=0, atol=1e-4)
    ones = random_walk(1 / (1 - data["edge"])[None], data["edge"])
    torch.testing.assert_close(ones, torch.ones_like(ones), rtol=0, atol=1e-6)
    # One pixel of the released result, a float32 power of the matrix, is 1.00014 itself.
    assert (ones - data["walked_ones"]).abs().mean() < 5e-5


@pytest.mark.parametrize("index", [0, 1, 2])
def test_walk_equals_the_released_one_on_all_scores(reference, index):
    data = reference("irn_walk", full=True)
    walked = random_walk(data[f"score_{index}"], data[f"edge_{index}"])
    torch.testing.assert_close(walked, data[f"walked_{index}"], rtol=0, atol=1e-4)


def test_walk_averages_and_stays_within_boundaries():
    boundary = torch.zeros(6, 9)
    boundary[:, 4] = 1
    score = torch.zeros(2, 6, 9)
    score[0, 2, 1] = 1
    score[1, :, :4] = 0.7
    point, constant = random_walk(score, boundary, 5, 10, 8)
    assert point[:, :4].min() > 0.5 * point[:, :4].max() > 0 and point[:, 5:].max() == 0
    torch.testing.assert_close(constant[:, :4], torch.full((6, 4), 0.7))
    assert constant[:, 5:].max() == 0
