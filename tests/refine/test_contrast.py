"""Contrast with the surroundings, against slow references written from the definitions."""

import cv2
import numpy as np
import pytest
import torch

from refine.contrast import (
    MEASURES,
    measure_contrast,
    peak_share,
    split_values,
    stretch_colours,
    weigh,
)

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (20, 30, 3)).astype(np.uint8)
SEED = RNG.random((2, 20, 30)).astype(np.float32)


def smooth_lab(image):
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    return cv2.GaussianBlur(lab, (0, 0), 0.5)


def test_median_is_the_distance_to_the_median_colour():
    lab = smooth_lab(IMAGE)
    median = [
        sorted(lab[..., c].ravel())[300] / 2 + sorted(lab[..., c].ravel())[299] / 2
        for c in range(3)
    ]
    expected = [
        [sum((lab[y, x, c] - median[c]) ** 2 for c in range(3)) ** 0.5 for x in range(30)]
        for y in range(20)
    ]
    np.testing.assert_allclose(measure_contrast(IMAGE, SEED, "median"), expected, rtol=1e-4)


def test_local_is_the_distance_to_the_mean_of_a_window():
    """0.4 of the root of 600 pixels: a window of 11; the image is mirrored at its border."""
    lab = smooth_lab(IMAGE)
    wide = np.pad(lab, ((5, 5), (5, 5), (0, 0)), "symmetric")
    expected = np.empty((20, 30))
    for y in range(20):
        for x in range(30):
            expected[y, x] = np.linalg.norm(lab[y, x] - wide[y : y + 11, x : x + 11].mean((0, 1)))
    np.testing.assert_allclose(measure_contrast(IMAGE, SEED, "local"), expected, rtol=1e-3)


def test_mahalanobis_is_the_distance_to_the_colours_where_all_maps_are_low():
    lab = smooth_lab(IMAGE).reshape(-1, 3).astype(np.float64)
    best = np.maximum(SEED[0], SEED[1]).ravel()
    ground = lab[best <= np.quantile(best, 0.4)]
    inverse = np.linalg.inv(np.cov(ground.T, bias=True) + np.eye(3))
    expected = [np.sqrt((p - ground.mean(0)) @ inverse @ (p - ground.mean(0))) for p in lab]
    actual = measure_contrast(IMAGE, SEED, "mahalanobis")
    np.testing.assert_allclose(actual.ravel(), expected, rtol=1e-4)


def test_peak_share_counts_what_stands_out_of_the_low_part():
    """Of 100 pixels the 3 highest of the map are the peak and the 30 lowest the low part."""
    cam = np.arange(100, dtype=np.float32).reshape(10, 10)
    contrast = np.ones((10, 10), np.float32)
    contrast[9, 8:] = 2
    assert peak_share(contrast, cam) == pytest.approx(2 / 3)
    contrast[0] = 3  # a third of the low part stands out even more
    assert peak_share(contrast, cam) == 0


def test_weigh_multiplies_by_the_geometric_mean():
    cam = np.linspace(0.1, 1, 100, dtype=np.float32).reshape(10, 10)
    first, second = RNG.random((2, 10, 10)).astype(np.float32) + 0.1
    low = cam <= np.quantile(cam, 0.3)
    expected = cam * np.sqrt(
        (first / first[low].mean() + 1e-3) * (second / second[low].mean() + 1e-3)
    )
    np.testing.assert_allclose(weigh(cam, [first, second]), expected / expected.max(), rtol=1e-4)
    np.testing.assert_allclose(weigh(cam, []), cam / cam.max())


def test_split_is_otsus():
    values = np.concatenate([RNG.normal(0.2, 0.05, 300), RNG.normal(0.8, 0.05, 100)])
    values = values.clip(0, 1).astype(np.float32)
    edges = np.arange(1, 256) / 256 * values.max()
    between = []
    for edge in edges:
        low, high = values[values < edge], values[values >= edge]
        between.append(
            len(low) * len(high) / 400**2 * (high.mean() - low.mean()) ** 2 if len(low) else 0
        )
    threshold, separation = split_values(values)
    best = edges[np.argmax(between)]
    assert threshold == pytest.approx(best, abs=float(values.max()) / 256)
    assert separation == pytest.approx(max(between) / values.var(), rel=1e-2)


FLAT = np.full((16, 16, 3), 90, np.uint8)
GREY = np.repeat(RNG.integers(0, 256, (16, 16, 1)), 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("image", [FLAT, GREY, IMAGE[:1, :1], IMAGE[:, :1]])
@pytest.mark.parametrize("measure", MEASURES)
def test_any_image_gives_numbers(image, measure):
    for seed in (np.zeros, np.ones):
        maps = seed((1, *image.shape[:2]), np.float32)
        contrast = measure_contrast(image, maps, measure)
        assert contrast.shape == image.shape[:2] and contrast.dtype == np.float32
        assert np.isfinite(contrast).all() and (contrast >= 0).all()
        product = weigh(maps[0], [contrast])
        assert np.isfinite(product).all() and 0 <= product.min() <= product.max() <= 1
        assert np.isfinite(split_values(product)).all()
        assert 0 <= peak_share(contrast, maps[0]) <= 1
    assert np.isfinite(measure_contrast(image, maps[:0], measure)).all()


def test_without_contrast_the_map_remains():
    cam = RNG.random((16, 16)).astype(np.float32)
    product = weigh(cam, [measure_contrast(FLAT, cam[None], name) for name in MEASURES])
    np.testing.assert_allclose(product, cam / cam.max(), rtol=1e-3)


def test_pale_images_are_stretched_others_stay():
    rng = np.random.default_rng(0)
    vivid = rng.integers(0, 256, (20, 30, 3))
    pale = 120 + rng.integers(-8, 9, (20, 30, 3))
    flat = np.full((20, 30, 3), 77)
    images = torch.from_numpy(np.stack([vivid, pale, flat]).astype(np.uint8))
    deviation = float(pale.std((0, 1)).mean())
    result = stretch_colours(images, 4 * deviation)
    assert torch.equal(result[0], images[0]) and torch.equal(result[2], images[2])
    assert float(result[1].float().std((0, 1)).mean()) == pytest.approx(4 * deviation, rel=0.01)
    assert result[1].float().mean() == pytest.approx(pale.mean(), abs=0.5)
    # Noise is not blown up to the whole range.
    by_channel = stretch_colours(images, 1000.0)[1].numpy()
    assert (np.ptp(by_channel, axis=(0, 1)) <= 6 * np.ptp(pale, axis=(0, 1))).all()
