"""The CRF at test leaves out classes that are improbable in the whole image."""

import numpy as np

import densecrf
from refine import refine_scores


def scores(*highest: float) -> np.ndarray:
    """Maps (C, 12, 16) with a peak each, all on one background that fills up to 1."""
    rng = np.random.default_rng(0)
    maps = np.stack([peak * rng.random((12, 16)) for peak in highest]).astype(np.float32)
    return np.concatenate([1 - maps.sum(0, keepdims=True), maps])


def test_improbable_classes_are_left_out():
    score, preset = scores(0.4, 0.009, 0.3), densecrf.preset("deeplab", scale=4)
    image = np.random.default_rng(1).integers(0, 256, (12, 16, 3), np.uint8)
    refined = refine_scores(score, image, preset, 0.01)
    assert not refined[2].any()
    assert np.array_equal(refined[[0, 1, 3]], refine_scores(score[[0, 1, 3]], image, preset))
    everything = refine_scores(score, image, preset)
    assert np.array_equal(refine_scores(score, image, preset, 1e-6), everything)
    assert np.abs(refined - everything).max() < 0.02


def test_one_class_always_stays():
    score, preset = scores(0.004, 0.003), densecrf.preset("deeplab", scale=4)
    image = np.zeros((12, 16, 3), np.uint8)
    refined = refine_scores(score, image, preset, 0.01)
    assert (refined[0] == 1).all() and not refined[1:].any()
    few = np.full((300, 12, 16), 1 / 300, np.float32)  # none reaches 1 %
    assert refine_scores(few, image, preset, 0.01).min() > 0
