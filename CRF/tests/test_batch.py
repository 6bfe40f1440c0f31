"""The batched call: what goes in, what comes out, what is refused."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import densecrf
from densecrf import _core


def test_batch_equals_single_images(scene):
    energy, image = scene(13, 18, 5, count=4)
    expected = [densecrf.mean_field(e, i, "deeplab", threads=1) for e, i in zip(energy, image)]
    for threads in (1, 2, 3):
        found = densecrf.mean_field(energy, image, "deeplab", threads=threads)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("labels", [1, 2, 4, 5, 8, 9, 16, 17, 33, 64, 65, 81, 130, 255])
def test_any_number_of_labels(scene, labels):
    # Rows of every length, on one thread and on two, give what the first labels alone cannot.
    energy, image = scene(11, 13, labels)
    found = densecrf.mean_field(energy, image, "deeplab", 2, threads=2)
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-5)
    order = np.random.default_rng(0).permutation(labels)
    shuffled = densecrf.mean_field(energy[order], image, "deeplab", 2, threads=1)
    np.testing.assert_allclose(shuffled, found[order], atol=1e-5)


@pytest.mark.parametrize("isa", ["baseline", "avx2"])
def test_instruction_sets_agree(scene, isa, tmp_path):
    energy, image = scene(20, 31, 21)
    expected = densecrf.mean_field(energy, image, "deeplab", 3, threads=1)
    np.savez(tmp_path / "in.npz", energy=energy, image=image)
    program = (
        "import sys, numpy as np, densecrf; d = np.load(sys.argv[1]);"
        "np.save(sys.argv[2], densecrf.mean_field(d['energy'], d['image'], 'deeplab', 3))"
    )
    files = [str(tmp_path / "in.npz"), str(tmp_path / "out.npy")]
    places = os.pathsep.join(p for p in sys.path if p)
    env = {**os.environ, "DENSECRF_ISA": isa, "PYTHONPATH": places}
    subprocess.run([sys.executable, "-c", program, *files], env=env, check=True)
    np.testing.assert_allclose(np.load(files[1]), expected, atol=1e-5)


def test_inputs_are_left_alone(scene):
    energy, image = scene(6, 7, 3)
    kept = energy.copy(), image.copy()
    energy.flags.writeable = image.flags.writeable = False
    densecrf.mean_field(energy, image)
    np.testing.assert_array_equal(energy, kept[0])
    np.testing.assert_array_equal(image, kept[1])


def test_strides_and_types(scene):
    energy, image = scene(6, 8, 3)
    expected = densecrf.mean_field(energy, image)
    np.testing.assert_array_equal(densecrf.mean_field(np.asfortranarray(energy), image), expected)
    mirrored = np.ascontiguousarray(image[:, ::-1])[:, ::-1]
    np.testing.assert_array_equal(densecrf.mean_field(energy, mirrored), expected)
    np.testing.assert_array_equal(densecrf.mean_field(energy.astype(float), image), expected)


def test_torch_tensors_go_in(scene):
    torch = pytest.importorskip("torch")
    energy, image = scene(6, 8, 3)
    found = densecrf.mean_field(torch.from_numpy(energy), torch.from_numpy(image))
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, densecrf.mean_field(energy, image))
    with pytest.raises(TypeError, match="requires grad"):
        densecrf.mean_field(torch.from_numpy(energy).requires_grad_(), image)


def test_forbidden_label(scene):
    energy, image = scene(6, 8, 3)
    energy[1] = np.inf
    found = densecrf.mean_field(energy, image)
    assert (found[1] == 0).all()
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-5)


@pytest.mark.parametrize("shift", [-300, -60, 60, 300])
@pytest.mark.parametrize("labels", [3, 21, 81])
def test_energies_far_from_zero(scene, shift, labels):
    # Exponentials leave the range of floats unless the largest is taken off.
    energy, image = scene(20, 23, labels)
    expected = densecrf.mean_field(energy, image, "deeplab", 1)
    found = densecrf.mean_field(energy + np.float32(shift), image, "deeplab", 1)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_released_memory_is_not_missed(scene):
    energy, image = scene(90, 120, 21)
    expected = densecrf.mean_field(energy, image).copy()
    densecrf.release_memory()
    np.testing.assert_array_equal(densecrf.mean_field(energy, image), expected)


def test_results_do_not_share_memory(scene):
    energy, image = scene(90, 120, 21)
    first = densecrf.mean_field(energy, image)
    kept = first.copy()
    densecrf.mean_field(energy[::-1], image)
    np.testing.assert_array_equal(first, kept)


def test_empty_batch(scene):
    found = densecrf.mean_field(
        np.zeros((0, 3, 4, 5), np.float32), np.zeros((0, 4, 5, 3), np.uint8)
    )
    assert found.shape == (0, 3, 4, 5)


@pytest.mark.parametrize("width", [1e-300, 1e-46, 1e-30, 1e300])
def test_extreme_widths_of_one_pixel(width):
    # Position is 0 whatever the width: the kernel is the identity.
    energy, image = np.float32([[[0.5]], [[0.1]]]), np.full((1, 1, 3), 9, np.uint8)
    for kernel in (densecrf.Gaussian(width, 2.0), densecrf.Bilateral(width, 20.0, 2.0)):
        found = densecrf.mean_field(energy, image, [kernel], 1)
        assert 0.6 < found[1, 0, 0] < 0.9 and np.allclose(found.sum(), 1)


def test_presets():
    assert densecrf.preset("sec-test", scale=12) == densecrf.preset("sec-train")
    assert densecrf.preset("psa").kernels == densecrf.preset("sec-test").kernels
    deeplab = densecrf.preset("deeplab").kernels
    assert deeplab == (densecrf.Gaussian(1.0, 3.0), densecrf.Bilateral(67.0, 3.0, 4.0))
    with pytest.raises(ValueError, match="no preset 'voc'"):
        densecrf.preset("voc")
    with pytest.raises(ValueError, match="scale"):
        densecrf.preset("psa", 0)


def energy_with(value):
    energy = np.zeros((2, 3, 4), np.float32)
    energy[:, 1, 2] = value
    return energy


GOOD = np.zeros((2, 3, 4), np.float32)
RGB = np.zeros((3, 4, 3), np.uint8)


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ((energy_with(np.nan), RGB), ValueError, "NaN"),
        ((energy_with(-np.inf), RGB), ValueError, "-inf"),
        ((energy_with(np.inf), RGB), ValueError, "one label possible"),
        ((GOOD.astype(int), RGB), TypeError, "float energies"),
        ((GOOD[0], RGB), ValueError, r"\(N, C, H, W\)"),
        ((GOOD[:0], RGB), ValueError, "no label"),
        ((GOOD[:, :0], RGB[:0]), ValueError, "no pixel"),
        ((GOOD, RGB.astype(np.float32)), TypeError, "uint8"),
        ((GOOD, RGB.transpose(1, 0, 2)), ValueError, "height, width, 3"),
        ((GOOD, RGB[None]), ValueError, "height, width, 3"),
        ((GOOD, RGB[..., :1]), ValueError, "height, width, 3"),
        ((GOOD, None), TypeError, "needs an image"),
        ((GOOD.tolist(), RGB), TypeError, "unary must be an array"),
        ((GOOD, RGB, "unknown"), ValueError, "no preset"),
        ((GOOD, RGB, 7), TypeError, "kernels"),
        ((GOOD, RGB, [7]), TypeError, "kernel"),
        ((GOOD, RGB, "psa", -1), ValueError, "steps"),
        ((GOOD, RGB, "psa", 1.5), TypeError, "steps"),
        ((GOOD, RGB, "psa", 1, -1), ValueError, "threads"),
        ((GOOD, RGB, "psa", 1, 1.0), TypeError, "threads"),
        ((GOOD, RGB, "psa", 1, 1, "float64"), ValueError, "precision"),
        ((GOOD, RGB, [densecrf.Gaussian(1, np.ones(3))]), ValueError, "2 labels"),
        ((GOOD, RGB, [densecrf.Gaussian(1e-12, 1)]), ValueError, "too small"),
        ((GOOD, RGB, [densecrf.Features(GOOD * np.nan)]), ValueError, "finite"),
        ((GOOD, RGB, [densecrf.Features(GOOD[:, 1:])]), ValueError, "feature of shape"),
    ],
)
def test_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        densecrf.mean_field(*arguments)


@pytest.mark.parametrize("width", [0, -1, np.nan, np.inf, (1, 2, 3), "3", None])
def test_widths_refused(width):
    with pytest.raises((ValueError, TypeError)):
        densecrf.Gaussian(width)
    with pytest.raises((ValueError, TypeError)):
        densecrf.Bilateral(3.0, width if width != (1, 2, 3) else (1, 2))


@pytest.mark.parametrize("compat", [np.nan, np.inf, "a", np.ones((2, 2, 2)), 1e31])
def test_compat_refused(compat):
    with pytest.raises((ValueError, TypeError)):
        densecrf.Gaussian(3.0, compat)
    with pytest.raises(ValueError, match="normalization"):
        densecrf.Gaussian(3.0, 1.0, "both")


def test_core_checks_for_itself():
    with pytest.raises(TypeError):
        _core.mean_field(np.zeros((1, 2, 3, 4)), None, [], 1, 1, True)
    with pytest.raises(ValueError):
        _core.mean_field(GOOD[None], RGB[None, :2], [], 1, 1, True)
    with pytest.raises(ValueError):
        _core.mean_field(
            GOOD[None], None, [((1.0,) * 5, None, np.float32([1])[0:1], 3)], 1, 1, True
        )


def test_lock_is_released(scene):
    # The other thread advances while the call runs; under the lock it could not.
    energy, image = scene(200, 200, 21)
    ticks, running = [], True

    def tick():
        while running:
            ticks.append(None)

    thread = threading.Thread(target=tick)
    thread.start()
    before = len(ticks)
    densecrf.mean_field(energy, image, steps=5, threads=1)
    after = len(ticks)
    running = False
    thread.join()
    assert after - before > 1000


def test_threads_may_call_at_once(scene):
    energy, image = scene(30, 40, 5)
    expected = densecrf.mean_field(energy, image, threads=2)
    found = [None] * 6

    def job(i):
        found[i] = densecrf.mean_field(energy, image, threads=2)

    crew = [threading.Thread(target=job, args=(i,)) for i in range(6)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    for result in found:
        np.testing.assert_array_equal(result, expected)
