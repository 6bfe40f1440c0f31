"""Images large enough for several segments of pixels, and for lattices whose vertices gather."""

import numpy as np
import pytest

import densecrf

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
