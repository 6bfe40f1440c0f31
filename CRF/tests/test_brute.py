"""Against the equations, written out with full kernel matrices in float64."""

import numpy as np
import pytest

import densecrf
from densecrf import Bilateral, Features, Gaussian


def kernel_matrix(kernel, image):
    height, width, _ = image.shape
    y, x = np.mgrid[:height, :width].reshape(2, -1).astype(float)
    if isinstance(kernel, Features):
        feature = np.asarray(kernel.feature, float).reshape(len(kernel.feature), -1)
    else:
        feature = [x / kernel.sxy, y / kernel.sxy]
        if isinstance(kernel, Bilateral):
            feature += list(image.reshape(-1, 3).T / kernel.srgb)
        feature = np.array(feature)
    distance = ((feature[:, :, None] - feature[:, None, :]) ** 2).sum(0)
    return np.exp(-distance / 2)


def brute_force(energy, image, kernels, steps):
    def softmax(logit):
        e = np.exp(logit - logit.max(0))
        return e / e.sum(0)

    labels = len(energy)
    logit = -energy.reshape(labels, -1).astype(float)
    marginal = softmax(logit)
    matrices = []
    for kernel in kernels:
        matrix = kernel_matrix(kernel, image)
        sums = matrix.sum(1)
        if kernel.normalization == "symmetric":
            matrix = matrix / np.sqrt(sums[:, None] * sums)
        elif kernel.normalization == "before":
            matrix = matrix / sums[:, None]
        elif kernel.normalization == "after":
            matrix = matrix / sums
        compat = np.asarray(kernel.compat, float)
        mu = -compat * np.eye(labels) if compat.ndim == 0 else compat
        mu = np.diag(mu) if mu.ndim == 1 else (mu + mu.T) / 2
        matrices.append((matrix, mu))
    for _ in range(steps):
        # A matrix acts on rows of marginals from the right: row p of K.T gives pixel p's message.
        marginal = softmax(logit - sum(mu @ marginal @ k for k, mu in matrices))
    return marginal.reshape(energy.shape)


MATRIX = np.array([[-2, 1, 0], [0, -1, 2], [0.5, 0, -3]], np.float32)
CASES = [
    [Gaussian(1.5, 3.0)],
    [Bilateral(4.0, 30.0, 5.0)],
    [Gaussian(1.0, 3.0), Bilateral(6.0, 40.0, 4.0)],
    [Bilateral(4.0, 30.0, np.array([-1, 2, -3], np.float32))],
    [Gaussian(2.0, MATRIX), Bilateral(4.0, 30.0, 5.0)],
    [Gaussian(2.0, 0.05, "none")],
    [Bilateral(4.0, 30.0, 5.0, "before")],
    [Bilateral(4.0, 30.0, 5.0, "after")],
]


@pytest.mark.parametrize("kernels", CASES)
def test_exact_engine(scene, kernels):
    torch = pytest.importorskip("torch")
    from densecrf.torch import mean_field

    energy, image = scene(9, 14, 3)
    for steps in (1, 5):
        found = mean_field(
            torch.from_numpy(energy), torch.from_numpy(image), kernels, steps, engine="exact"
        )
        expected = brute_force(energy, image, kernels, steps)
        assert np.abs(found.numpy() - expected).max() < 1e-4 * steps


@pytest.mark.parametrize("kernels", CASES)
def test_lattice_approximates(scene, kernels):
    energy, image = scene(24, 30, 3)
    found = densecrf.mean_field(energy, image, kernels, 1)
    expected = brute_force(energy, image, kernels, 1)
    # The lattice is an approximation; its error is a property of the method (README).
    assert np.abs(found - expected).mean() < 0.03
    assert (found.argmax(0) == expected.argmax(0)).mean() > 0.95


def test_features_equal_bilateral(scene):
    energy, image = scene(12, 17, 4)
    y, x = np.mgrid[:12, :17].astype(np.float32)
    feature = np.stack([x / np.float32(5), y / np.float32(5), *(image.transpose(2, 0, 1) / 20.0)])
    ours = densecrf.mean_field(energy, image, [Features(feature.astype(np.float32), 4.0)], 3)
    expected = densecrf.mean_field(energy, image, [Bilateral(5.0, 20.0, 4.0)], 3)
    np.testing.assert_allclose(ours, expected, atol=2e-3)


def test_no_steps_is_softmax(scene):
    energy, image = scene(5, 7, 3)
    expected = np.exp(-energy) / np.exp(-energy).sum(0)
    np.testing.assert_allclose(densecrf.mean_field(energy, image, steps=0), expected, rtol=1e-5)


def test_narrow_gaussian_is_identity(scene):
    # At 0.25 pixel no lattice path joins two pixels, so that K is the identity.
    energy, image = scene(9, 11, 3)
    marginal = densecrf.mean_field(energy, image, steps=0)
    for _ in range(4):
        logit = -energy + 3.0 * marginal
        marginal = np.exp(logit) / np.exp(logit).sum(0)
    found = densecrf.mean_field(energy, image, [Gaussian(0.25, 3.0)], 4)
    np.testing.assert_allclose(found, marginal, atol=1e-5)
    diagonal = np.full(3, -3.0, np.float32)  # not taken as the identity: goes through the lattice
    found = densecrf.mean_field(energy, image, [Gaussian(0.25, diagonal)], 4)
    np.testing.assert_allclose(found, marginal, atol=1e-5)
