"""Images large enough for several segments of pixels, and for lattices whose vertices gather."""

import numpy as np
import pytest

import densecrf
from densecrf import _core
from densecrf.pydensecrf import densecrf as dcrf
from densecrf.pydensecrf import utils

SIZE = (190, 200)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    smooth = np.stack([x, y, (x + y) // 2], axis=2).astype(np.uint8)
    noise = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    # Scores as a network gives them: of one opinion over some pixels, and mostly sure.
    score = np.kron(rng.normal(0, 3, (21, SIZE[0] // 10, SIZE[1] // 10)), np.ones((1, 10, 10)))
    energy = (np.log(np.exp(score).sum(0)) - score).astype(np.float32)
    return energy, {"smooth": smooth, "noise": noise}


@pytest.mark.parametrize("name", ["smooth", "noise"])
def test_threads_do_not_change_a_bit(pictures, name):
    energy, images = pictures
    one, two, five = (
        densecrf.mean_field(energy, images[name], "sec-test", 4, threads=n) for n in (1, 2, 5)
    )
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, five)


@pytest.mark.parametrize("name", ["smooth", "noise"])
def test_equals_float_lattice(pictures, name):
    torch = pytest.importorskip("torch")
    from densecrf.torch import mean_field

    energy, images = pictures
    found = densecrf.mean_field(energy, images[name], "sec-test", 1)
    expected = mean_field(
        torch.from_numpy(energy), torch.from_numpy(images[name]), "sec-test", 1, engine="lattice"
    )
    error = np.abs(found - expected.numpy())
    # A large lattice holds float16; a difference of rounding may also move a pixel's simplex.
    assert error.max() <= 1e-3 and error.mean() <= 1e-5


def test_precision(pictures):
    torch = pytest.importorskip("torch")
    from densecrf.torch import mean_field

    energy, images = pictures
    image = images["noise"]
    expected = mean_field(
        torch.from_numpy(energy), torch.from_numpy(image), "sec-test", 1, engine="lattice"
    ).numpy()
    half, single = (
        densecrf.mean_field(energy, image, "sec-test", 1, precision=p)
        for p in ("float16", "float32")
    )
    error = np.abs(single - expected)
    # A difference of rounding may move a pixel's simplex: the maximum says less than the mean.
    assert error.mean() <= 1e-6
    if "avx" in _core.instruction_set():
        assert error.mean() < np.abs(half - expected).mean()
    crf = dcrf.DenseCRF2D(SIZE[1], SIZE[0], len(energy))
    crf.setUnaryEnergy(energy.reshape(len(energy), -1))
    crf.addPairwiseGaussian(3, 3)
    crf.addPairwiseBilateral(80, 13, image, 10)
    assert np.abs(crf.inference(1).reshape(half.shape) - half).mean() <= 1e-6


def test_rows_of_pixels_without_an_image(pictures):
    # The same variables as a row, in whose tiles other pixels lie.
    energy, images = pictures
    flat = energy.reshape(len(energy), -1)
    feature = utils.create_pairwise_bilateral((80, 80), (13,) * 3, images["smooth"], 2)
    results = []
    for crf in (dcrf.DenseCRF(flat.shape[1], len(flat)), dcrf.DenseCRF2D(*SIZE[::-1], len(flat))):
        crf.setUnaryEnergy(flat)
        crf.addPairwiseEnergy(feature, 10)
        results.append(crf.inference(1))
    np.testing.assert_allclose(*results, atol=1e-4)
