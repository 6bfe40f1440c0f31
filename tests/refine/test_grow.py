"""Region growing against a slow walk written from the rule, and against the released layer."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refine.grow import UNSET, flood, flood_cpu, grow_seeds, region_map

THRESHOLD = (0.6, 0.8)


def walk(score, seed, tag, foreground, background):
    """Grow one image, (C, H, W): start at each seed and step to neighbours of the same region."""
    classes, height, width = score.shape
    allowed = [0, *(c for c in range(1, classes) if tag[c - 1])]
    region = {}
    for y in range(height):
        for x in range(width):
            for c in range(classes):
                if seed[c, y, x]:
                    region[y, x] = c
            best = max(allowed, key=lambda c: score[c, y, x])
            if score[best, y, x] > (background if best == 0 else foreground):
                region[y, x] = best
    grown = seed.copy()
    for c in allowed:
        stack = [
            (y, x) for (y, x), label in region.items() if label == c and seed[c, y, x]
        ]  # fmt: skip
        seen = set(stack)
        while stack:
            y, x = stack.pop()
            if seed[:, y, x].sum() != 1:
                grown[c, y, x] = True
            for place in ((y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
                if region.get(place) == c and place not in seen:
                    seen.add(place)
                    stack.append(place)
    return grown


@st.composite
def problems(draw):
    """Score, seed and tag of a small batch; scores of few values, so that ties occur."""
    count, classes = draw(st.integers(1, 3)), draw(st.integers(2, 5))
    shape = (count, classes, draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    score = draw(arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.5, 0.7, 0.9])))
    seed = draw(arrays(np.uint8, shape, elements=st.integers(0, 5))) == 0
    tag = draw(arrays(bool, (count, classes - 1)))
    return score, seed, tag.astype(np.float32)


def tensors(problem):
    return tuple(map(torch.from_numpy, problem))


@given(problems())
@settings(deadline=None, max_examples=150)
def test_grow_equals_walk(problem):
    expected = np.stack([walk(*image, *THRESHOLD) for image in zip(*problem)])
    assert np.array_equal(grow_seeds(*tensors(problem), *THRESHOLD).numpy(), expected)


@given(
    arrays(bool, st.tuples(st.integers(0, 4), st.integers(1, 12), st.integers(1, 12))),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=150)
def test_both_floods_agree(mask, seed):
    start = mask & (np.random.default_rng(seed).random(mask.shape) < 0.1)
    mask, start = torch.from_numpy(mask), torch.from_numpy(start)
    assert flood(mask, start).equal(flood_cpu(mask, start))


def spiral(side):
    """A path of one pixel's width that winds into the middle: the longest way to flood."""
    mask = np.zeros((side, side), bool)
    y, x, dy, dx = 0, 0, 0, 1
    mask[0, 0] = True
    for turn in range(side):
        for _ in range(side - 1 - 2 * (max(turn - 1, 0) // 2)):
            if not (0 <= y + dy < side and 0 <= x + dx < side):
                break
            y, x = y + dy, x + dx
            mask[y, x] = True
        dy, dx = dx, -dy
    return torch.from_numpy(mask)[None]


@pytest.mark.parametrize("fill", [flood, flood_cpu])
def test_flood_follows_a_long_path_to_its_end(fill):
    mask = spiral(31)
    start = torch.zeros_like(mask)
    start[0, 0, 0] = True
    assert fill(mask, start).equal(mask)
    mask[0, 0, 15] = False  # a break: nothing behind it is reached
    assert fill(mask, start).sum() == 15


@pytest.mark.parametrize("fill", [flood, flood_cpu])
def test_maps_do_not_leak_into_one_another(fill):
    mask = torch.ones(2, 3, 4, dtype=torch.bool)
    start = torch.zeros_like(mask)
    start[0, 2] = True
    assert fill(mask, start).equal(torch.stack([mask[0], ~mask[1]]))


def test_thresholds_are_strict():
    score = torch.full((1, 2, 1, 1), 0.5, dtype=torch.float64)
    none = torch.zeros_like(score, dtype=torch.bool)
    assert region_map(score, none, torch.ones(1, 1), 0.5, 0.5).item() == UNSET
    assert region_map(score, none, torch.ones(1, 1), 0.5, 0.49).item() == 0


@pytest.mark.parametrize(
    ("shape", "seed", "tag"),
    [
        ((1, 3, 4, 4), (1, 3, 4, 5), (1, 2)),
        ((1, 3, 4, 4), (1, 3, 4, 4), (1, 3)),
        ((3, 4), (3, 4), (1, 2)),
    ],
)
def test_shapes_are_checked(shape, seed, tag):
    with pytest.raises(ValueError, match=r"\(N, C"):
        grow_seeds(torch.zeros(shape), torch.zeros(seed, dtype=torch.bool), torch.zeros(tag))


@pytest.mark.parametrize(
    ("score", "expected", "foreground", "background"),
    [
        ("crf_refined_probs", "seeds_from_refined", 0.85, 0.99),
        ("probs", "seeds_from_probs", 0.85, 0.99),
        ("probs", "seeds_from_probs_th1_0p6_th2_0p3", 0.3, 0.6),
    ],
)
@pytest.mark.parametrize("pooling", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_equals_the_released_layer(
    reference, score, expected, foreground, background, pooling, full, monkeypatch
):
    if pooling:  # what a CUDA device runs
        monkeypatch.setattr("refine.grow.flood_cpu", flood)
    data = reference("dsrg", full)
    given = [data[name] for name in (score, "cues", "labels", expected)]
    found = grow_seeds(given[0], given[1], given[2][:, 1:], foreground, background)
    assert found.equal(given[3])
