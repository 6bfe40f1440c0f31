"""The interface of pydensecrf."""

import subprocess
import sys

import numpy as np
import pytest

import densecrf
from densecrf.pydensecrf import densecrf as dcrf
from densecrf.pydensecrf import utils

W, H, C = 12, 8, 3


@pytest.fixture
def inputs(scene):
    energy, image = scene(H, W, C)
    return energy.reshape(C, -1), image


def model(energy, image, **options):
    crf = dcrf.DenseCRF2D(W, H, C)
    crf.setUnaryEnergy(energy)
    crf.addPairwiseGaussian(sxy=3, compat=3, **options)
    crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10, **options)
    return crf


def test_equals_batched_call(inputs):
    energy, image = inputs
    found = np.array(model(energy, image).inference(10)).reshape(C, H, W)
    expected = densecrf.mean_field(energy.reshape(C, H, W), image, "sec-test")
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_steps_equal_inference(inputs):
    crf = model(*inputs)
    marginal, first, second = crf.startInference()
    before = crf.klDivergence(marginal)
    for _ in range(5):
        crf.stepInference(marginal, first, second)
    np.testing.assert_allclose(marginal, crf.inference(5), atol=1e-5)
    assert crf.klDivergence(marginal) < before


@pytest.mark.parametrize("normalization", list(dcrf.NormalizationType))
@pytest.mark.parametrize(
    "compat", [2.0, np.float32([1, -2, 0.5]), np.float32([[1, 0, 0], [2, -1, 0], [0, 0, -2]])]
)
def test_equals_installed_pydensecrf(inputs, normalization, compat):
    rival = pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf is not installed")
    if rival is dcrf:
        pytest.skip("pydensecrf is this package")
    energy, image = inputs
    results = []
    for module in (rival, dcrf):
        crf = module.DenseCRF2D(W, H, C)
        crf.setUnaryEnergy(energy)
        kind = list(module.NormalizationType)[int(normalization)]
        crf.addPairwiseGaussian((3, 2), compat, module.FULL_KERNEL, kind)
        crf.addPairwiseBilateral((5, 4), (20, 30, 40), image, compat, normalization=kind)
        marginal, *rest = crf.startInference()
        divergence = []
        for _ in range(3):
            crf.stepInference(marginal, *rest)
            divergence.append(crf.klDivergence(marginal))
        results.append((np.array(marginal), divergence))
    np.testing.assert_allclose(results[1][0], results[0][0], atol=1e-4)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-4)


def test_energy_without_image(inputs):
    energy, image = inputs
    crf = dcrf.DenseCRF(W * H, C)
    crf.setUnaryEnergy(energy)
    crf.addPairwiseEnergy(utils.create_pairwise_gaussian((3, 3), (H, W)), compat=3)
    crf.addPairwiseEnergy(utils.create_pairwise_bilateral((80, 80), (13,) * 3, image, 2), compat=10)
    found, expected = crf.inference(5), model(energy, image).inference(5)
    # y and x change places, which the lattice is not blind to.
    assert np.abs(found - expected).mean() < 0.01


def test_no_unary_is_uniform(inputs):
    found = dcrf.DenseCRF2D(W, H, C).inference(1)
    np.testing.assert_allclose(found, 1 / C, rtol=1e-6)


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda c, e, i: c.setUnaryEnergy(e.astype(float)), ValueError, "float32"),
        (lambda c, e, i: c.setUnaryEnergy(e[:, 1:].copy()), ValueError, "Bad shape for unary"),
        (lambda c, e, i: c.setUnaryEnergy(e.reshape(C, H, W)), ValueError, "dimensions"),
        (lambda c, e, i: c.setUnaryEnergy(np.asfortranarray(e)), ValueError, "C-contiguous"),
        (lambda c, e, i: c.addPairwiseBilateral(3, 3, i[:, ::-1], 3), ValueError, "C-contiguous"),
        (
            lambda c, e, i: c.addPairwiseBilateral(3, 3, i.transpose(1, 0, 2).copy(), 3),
            ValueError,
            "Bad shape for pairwise",
        ),
        (lambda c, e, i: c.addPairwiseBilateral(3, 3, i[..., :1].copy(), 3), ValueError, "RGB"),
        (lambda c, e, i: c.addPairwiseBilateral(3, 3, i / 255, 3), ValueError, "uint8"),
        (lambda c, e, i: c.addPairwiseGaussian(0, 3), ValueError, "positive"),
        (lambda c, e, i: c.addPairwiseGaussian(3, np.ones(2, np.float32)), ValueError, "3 labels"),
        (lambda c, e, i: c.addPairwiseGaussian(3, [1, 2, 3]), TypeError, ""),
        (lambda c, e, i: c.addPairwiseGaussian(3, 3, kernel=9), ValueError, "9"),
        (lambda c, e, i: c.addPairwiseEnergy(e[:, 1:].copy(), 3), ValueError, "Bad shape"),
        (lambda c, e, i: dcrf.DenseCRF2D(0, 3, 2), ValueError, "at least 1"),
        (lambda c, e, i: dcrf.DenseCRF(-4, 2), ValueError, "variables"),
        (lambda c, e, i: c.klDivergence(e[:1]), ValueError, "Q must be"),
    ],
)
def test_refused(inputs, call, error, words):
    with pytest.raises(error, match=words):
        call(dcrf.DenseCRF2D(W, H, C), *inputs)


def test_unary_from_labels():
    labels = np.array([[0, 1], [2, 1]])
    found = utils.unary_from_labels(labels, 2, 0.7)
    expected = -np.log([[0.5, 0.7, 0.3, 0.7], [0.5, 0.3, 0.7, 0.3]])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    found = utils.unary_from_labels(labels, 3, 0.8, zero_unsure=False)
    np.testing.assert_allclose(np.exp(-found).sum(0), 1, rtol=1e-6)
    np.testing.assert_array_equal(found.argmin(0), labels.ravel())
    with pytest.raises(IndexError, match=r"0\.\.1"):
        utils.unary_from_labels(labels, 2, 0.7, zero_unsure=False)
    with pytest.raises(AssertionError):
        utils.unary_from_labels(labels, 2, 1.5)


def test_unary_from_softmax():
    probability = np.array([[[0.9, 1.0]], [[0.1, 0.0]]])
    found = utils.unary_from_softmax(probability)
    np.testing.assert_allclose(found, -np.log([[0.9, 1], [0.1, 1e-5]]), rtol=1e-6, atol=1e-6)
    assert found.shape == (2, 2) and found.dtype == np.float32
    found = utils.unary_from_softmax(probability, scale=0.8)
    np.testing.assert_allclose(found, -np.log([[0.82, 0.9], [0.18, 0.1]]), rtol=1e-6)
    assert np.isinf(utils.unary_from_softmax(probability[:, :, 1:], clip=None)[1, 0])


def test_pairwise_features():
    image = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    found = utils.create_pairwise_bilateral((2, 3), (2, 4, 8), image, 2)
    np.testing.assert_allclose(found[:, 5], [0.5, 1 / 3, 7.5, 4, 2.125])
    found = utils.create_pairwise_bilateral((2, 3), (2,), image[:, :, 0])
    np.testing.assert_allclose(found[:, 5], [0.5, 1 / 3, 7.5])
    assert utils.create_pairwise_gaussian((1, 2, 3), (2, 3, 4)).shape == (3, 24)


def test_install_as_pydensecrf():
    program = (
        "import densecrf; densecrf.install_as_pydensecrf();"
        "import pydensecrf.densecrf as d; from pydensecrf.utils import unary_from_labels;"
        "assert d is densecrf.pydensecrf.densecrf; d.DenseCRF2D(3, 2, 2).inference(1)"
    )
    env = {**__import__("os").environ, "PYTHONPATH": ":".join(p for p in sys.path if p)}
    subprocess.run([sys.executable, "-c", program], check=True, env=env)
