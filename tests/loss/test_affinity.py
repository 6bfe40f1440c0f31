"""Pair affinities, their loss and the random walk, against slow scalar code."""

import math
from itertools import pairwise

import pytest
import torch

from loss.affinity import affinity_terms
from refine.affinity import displacements, line, pairs, random_walk, transition


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scalar_affinity(boundary, first, second):
    steps = line(second[0] - first[0], second[1] - first[1])
    return 1 - max(boundary[first[0] + y, first[1] + x].item() for y, x in steps)


def all_pairs(height, width, radius):
    places = [(y, x) for y in range(height) for x in range(width)]
    for k, first in enumerate(places):
        for second in places[k + 1 :]:
            if math.dist(first, second) <= radius:
                yield first, second


def test_each_pair_once_and_in_its_place():
    boundary = random(2, 4, 5)
    found = {}
    for down, right, affinity in pairs(boundary, 3):
        for y in range(affinity.shape[1]):
            for x in range(affinity.shape[2]):
                first = (y, x + max(-right, 0))
                key = (first, (first[0] + down, first[1] + right))
                assert key not in found
                found[key] = affinity[:, y, x]
    assert set(found) == set(all_pairs(4, 5, 3))
    for (first, second), value in found.items():
        for n in range(2):
            assert value[n].item() == pytest.approx(scalar_affinity(boundary[n], first, second))


def test_lines_are_connected():
    for down, right in displacements(6):
        steps = line(down, right)
        assert steps[0] == (0, 0) and steps[-1] == (down, right)
        for a, b in pairwise(steps):
            assert max(abs(a[0] - b[0]), abs(a[1] - b[1])) == 1


def test_loss_equals_the_scalar_one():
    boundary = random(1, 4, 4).requires_grad_()
    mask = torch.tensor([[[0, 0, 1, 1], [0, 255, 1, 2], [0, 0, 2, 2], [0, 0, 255, 2]]])
    found = affinity_terms(boundary, mask, 2)
    expected = {"foreground": [0.0, 0], "background": [0.0, 0], "different": [0.0, 0]}
    for first, second in all_pairs(4, 4, 2):
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
        lambda b: sum(loss for loss, _ in affinity_terms(b, mask, 2).values()), boundary
    )


def test_nothing_labelled_gives_zero():
    terms = affinity_terms(random(1, 3, 3), torch.full((1, 3, 3), 255), 5)
    assert all(loss == 0 and count == 0 for loss, count in terms.values())


def test_walk_is_the_power_of_the_scalar_matrix():
    boundary, score = random(3, 4), random(2, 3, 4, seed=1)
    n = 12
    matrix = torch.eye(n, dtype=torch.float64)
    for first, second in all_pairs(3, 4, 2):
        a, b = first[0] * 4 + first[1], second[0] * 4 + second[1]
        matrix[a, b] = matrix[b, a] = scalar_affinity(boundary, first, second) ** 3
    matrix = matrix / matrix.sum(0)
    torch.testing.assert_close(transition(boundary, 2, 3).to_dense(), matrix)
    power = torch.linalg.matrix_power(matrix, 8)
    start = (score * (1 - boundary)).flatten(1).T
    found = random_walk(score, boundary, 2, 3, 3)
    torch.testing.assert_close(found.flatten(1).T, power @ start)


def test_walk_stays_within_boundaries():
    boundary = torch.zeros(6, 9)
    boundary[:, 4] = 1
    score = torch.zeros(1, 6, 9)
    score[0, 2, 1] = 1
    found = random_walk(score, boundary, 5, 10, 8)[0]
    assert found[:, :4].min() > 0.5 * found[:, :4].max() and found[:, 5:].max() == 0
    assert found.sum().item() == pytest.approx(1, abs=1e-4)
