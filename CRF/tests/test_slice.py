"""Against marginals of the original program on a small grid, which are part of the repository.

reference/crf_20x26.npz: pydensecrf, SEC's training kernels at scale 12, five labels.
"""

from pathlib import Path

import numpy as np
import pytest

import densecrf
from densecrf.pydensecrf.densecrf import DenseCRF2D

DATA = np.load(Path(__file__).parent / "reference/crf_20x26.npz")
GAUSSIAN = densecrf.Gaussian(3 / 12, 3.0)
BILATERAL = densecrf.Bilateral(80 / 12, 13.0, 10.0)


@pytest.mark.parametrize(
    "key, kernels, steps, limit",
    [
        ("Q_it1", "sec-train", 1, 1e-5),
        ("Q_it5", "sec-train", 5, 1e-4),
        ("Q_it10", "sec-train", 10, 1e-4),
        ("Q_gauss_only_it1", [GAUSSIAN], 1, 1e-5),
        ("Q_bilat_only_it1", [BILATERAL], 1, 1e-5),
    ],
)
def test_marginals(key, kernels, steps, limit):
    unary = DATA["unary"].astype(np.float32)
    marginal = densecrf.mean_field(unary, DATA["image"], kernels, steps)
    assert np.abs(marginal - DATA[key]).max() <= limit


def test_divergence():
    unary = DATA["unary"].astype(np.float32)
    labels, height, width = unary.shape
    model = DenseCRF2D(width, height, labels)
    model.setUnaryEnergy(unary.reshape(labels, -1))
    model.addPairwiseGaussian(3 / 12, 3.0)
    model.addPairwiseBilateral(80 / 12, 13.0, DATA["image"], 10.0)
    marginal, *rest = model.startInference()
    for expected in DATA["kl_per_iter"]:
        model.stepInference(marginal, *rest)
        assert model.klDivergence(marginal) == pytest.approx(expected, rel=2e-4)
