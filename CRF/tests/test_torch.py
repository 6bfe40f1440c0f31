"""The torch engines; each is also compared with brute force in test_brute.py."""

import numpy as np
import pytest

import densecrf

torch = pytest.importorskip("torch")
import densecrf.torch as dense  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def few_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, 2))
    yield
    torch.set_num_threads(before)


def tensors(scene, *size, **options):
    return tuple(torch.from_numpy(a) for a in scene(*size, **options))


@pytest.mark.parametrize("kernels", ["sec-train", "deeplab", [densecrf.Gaussian((3, 2), 3.0)]])
@pytest.mark.parametrize("count", [None, 3])
def test_lattice_equals_compiled(scene, kernels, count):
    energy, image = tensors(scene, 17, 23, 5, count=count)
    expected = dense.mean_field(energy, image, kernels, 3)
    found = dense.mean_field(energy, image, kernels, 3, engine="lattice")
    assert found.shape == energy.shape
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_reference(reference):
    data = reference("crf_41x41_1.npz")
    expected = torch.from_numpy(data["Q_pydensecrf_it1"])
    energy = torch.from_numpy(data["unary"]).reshape(expected.shape)
    image = torch.from_numpy(data["image"])
    found = dense.mean_field(energy, image, "sec-train", 1, engine="lattice")
    assert (found - expected).abs().max() <= 1e-3
    exact = dense.mean_field(energy, image, "sec-train", 1, engine="exact")
    # The lattice's own approximation, known to be 0.001 to 0.006 on average here.
    assert (exact - expected).abs().mean() < 0.006


@pytest.mark.parametrize("kernels", ["deeplab", [densecrf.Gaussian(2.0, 3.0, "before")]])
def test_memory_bound(scene, kernels, monkeypatch):
    energy, image = tensors(scene, 17, 23, 5, count=3)
    expected = {e: dense.mean_field(energy, image, kernels, 3, engine=e) for e in dense.ENGINES}
    monkeypatch.setattr(dense, "MEMORY", 200_000)
    for engine, value in expected.items():
        found = dense.mean_field(energy, image, kernels, 3, engine=engine)
        torch.testing.assert_close(found, value, atol=1e-5, rtol=0)


def test_features_and_matrix(scene):
    energy, _ = tensors(scene, 9, 10, 3)
    mu = np.float32([[-2, 1, 0], [1, -3, 0], [0, 0, -1]])
    kernel = densecrf.Features(np.random.default_rng(0).normal(0, 1, (4, 9, 10)), mu)
    expected = dense.mean_field(energy, None, [kernel], 3)
    found = dense.mean_field(energy, None, [kernel], 3, engine="lattice")
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("engine", dense.ENGINES)
def test_contract(scene, engine):
    energy, image = tensors(scene, 5, 6, 3, count=2)
    found = dense.mean_field(energy.half().requires_grad_(), image, "deeplab", engine=engine)
    assert found.dtype == torch.float32 and not found.requires_grad
    torch.testing.assert_close(found.sum(1), torch.ones(2, 5, 6))
    assert dense.mean_field(energy[:0], image[:0], engine=engine).shape == (0, 3, 5, 6)
    with pytest.raises(ValueError, match="NaN"):
        dense.mean_field(energy * torch.nan, image, engine=engine)
    with pytest.raises(ValueError, match="height, width, 3"):
        dense.mean_field(energy, image.transpose(1, 2), engine=engine)
    with pytest.raises(TypeError, match="uint8"):
        dense.mean_field(energy, image.float(), engine=engine)
    with pytest.raises(ValueError, match="engine"):
        dense.mean_field(energy, image, engine="fast")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("engine", dense.ENGINES)
def test_cuda(scene, engine):
    energy, image = tensors(scene, 41, 41, 21, count=4)
    found = dense.mean_field(energy.cuda(), image.cuda(), "sec-train", 1, engine=engine)
    kind = "lattice" if engine == "lattice" else "exact"
    expected = dense.mean_field(energy, image, "sec-train", 1, engine=kind)
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), expected, atol=1e-3, rtol=0)
