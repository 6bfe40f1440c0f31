"""Against marginals of the original program."""

import numpy as np
import pytest

import densecrf
from densecrf.pydensecrf.densecrf import DenseCRF2D

GAUSSIAN = densecrf.Gaussian(3 / 12, 3.0)
BILATERAL = densecrf.Bilateral(80 / 12, 13.0, 10.0)


def close(marginal, expected, steps):
    error = np.abs(marginal - expected)
    agree = (marginal.argmax(0) == expected.argmax(0)).mean()
    # Ten steps amplify a rounding at a few pixels to any size: a maximum says nothing there.
    if steps == 1:
        assert error.max() <= 1e-3 and error.mean() <= 1e-5
    assert error.mean() <= 1e-4 and agree >= 0.999


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "key, kernels, steps",
    [
        ("pydensecrf_it1", "sec-train", 1),
        ("pydensecrf_it5", "sec-train", 5),
        ("pydensecrf_it10", "sec-train", 10),
        ("krahenbuhl2013_it10", "sec-train", None),
        ("pydensecrf_gauss_only_it1", [GAUSSIAN], 1),
        ("pydensecrf_bilat_only_it1", [BILATERAL], 1),
    ],
)
def test_small_grid(reference, index, threads, key, kernels, steps):
    data = reference(f"crf_41x41_{index}.npz")
    expected = data[f"Q_{key}"]
    marginal = densecrf.mean_field(
        data["unary"].reshape(expected.shape), data["image"], kernels, steps, threads=threads
    )
    close(marginal, expected, steps)


def test_image_size(reference):
    data = reference("crf_321x321_0.npz")
    expected = data["Q_pydensecrf_it10_f16"].astype(np.float32)
    unary = data["unary"].reshape(expected.shape)
    close(densecrf.mean_field(unary, data["image"], "sec-test"), expected, 10)


@pytest.mark.parametrize("index", [0, 1])
def test_divergence(reference, index):
    data = reference(f"crf_41x41_{index}.npz")
    model = DenseCRF2D(41, 41, len(data["unary"]))
    model.setUnaryEnergy(data["unary"])
    model.addPairwiseGaussian(float(data["sxy_gauss"]), float(data["compat_gauss"]))
    model.addPairwiseBilateral(
        float(data["sxy_bilat"]), float(data["srgb"]), data["image"], float(data["compat_bilat"])
    )
    marginal, *rest = model.startInference()
    for expected in data["kl_per_iter"]:
        model.stepInference(marginal, *rest)
        assert model.klDivergence(marginal) == pytest.approx(expected, rel=2e-4)
