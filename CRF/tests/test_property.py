"""Any input gives marginals or one clear error."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import densecrf

width = st.one_of(
    st.floats(0.1, 100),
    st.sampled_from([1e-300, 1e-30, 1e-7, 1e-4, 1e7, 1e30, 1e300]),
)
sizes = st.tuples(
    st.integers(1, 2), st.sampled_from([1, 2, 3, 7, 21, 255]), *[st.integers(1, 9)] * 2
)


@st.composite
def kernels(draw):
    made = []
    for _ in range(draw(st.integers(0, 3))):
        compat = draw(st.floats(-50, 50, width=32))
        kind = draw(st.sampled_from(["symmetric", "before", "after", "none"]))
        if draw(st.booleans()):
            made.append(densecrf.Gaussian((draw(width), draw(width)), compat, kind))
        else:
            made.append(densecrf.Bilateral(draw(width), draw(width), compat, kind))
    return made


@settings(max_examples=150, deadline=None)
@given(sizes, kernels(), st.integers(0, 4), st.integers(1, 3), st.integers(0, 2**32 - 1), st.data())
def test_marginals_or_one_error(size, chosen, steps, threads, seed, data):
    rng = np.random.default_rng(seed)
    count, _, height, width = size
    image = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    unary = rng.normal(0, data.draw(st.sampled_from([0, 1, 100, 1e30])), size).astype(np.float32)
    for value in data.draw(st.lists(st.sampled_from([np.nan, np.inf, -np.inf, 3e38]), max_size=2)):
        unary.flat[rng.integers(unary.size)] = value
    allowed = not np.isnan(unary).any() and not (unary == -np.inf).any()
    allowed = allowed and bool((unary < 1e30).any(1).all())
    try:
        found = densecrf.mean_field(unary, image, chosen, steps, threads)
    except ValueError as error:
        assert not allowed or "too small" in str(error)
        return
    assert allowed
    assert found.shape == size
    assert np.isfinite(found).all() and (found >= 0).all()
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
def test_any_feature_dimension(dimension, pixels, seed, spread):
    rng = np.random.default_rng(seed)
    feature = rng.normal(0, spread, (dimension, 1, pixels)).astype(np.float32)
    unary = rng.normal(0, 1, (3, 1, pixels)).astype(np.float32)
    found = densecrf.mean_field(unary, None, [densecrf.Features(feature, 2.0)], 2)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-4)


def test_extreme_dimensions():
    rng = np.random.default_rng(0)
    unary = rng.normal(0, 1, (2, 1, 6)).astype(np.float32)
    for dimension in (40, 255):
        feature = rng.normal(0, 1, (dimension, 1, 6)).astype(np.float32)
        found = densecrf.mean_field(unary, None, [densecrf.Features(feature, 2.0)], 2)
        np.testing.assert_allclose(found.sum(0), 1, rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(2, 9))
def test_mirrored_labels(seed, height, width):
    # Labels have no order: swapping energies swaps marginals.
    rng = np.random.default_rng(seed)
    unary = rng.normal(0, 1, (5, height, width)).astype(np.float32)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = densecrf.mean_field(unary, image, "deeplab", 2)
    swapped = densecrf.mean_field(unary[::-1], image, "deeplab", 2)
    np.testing.assert_allclose(swapped[::-1], found, atol=1e-4)
