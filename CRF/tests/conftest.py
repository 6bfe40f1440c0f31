from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def reference():
    """Loads a file of marginals of the original program, or skips."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "reference"

    def load(name: str):
        path = folder / name
        if not path.exists():
            pytest.skip(f"reference data {name} is not beside the repository")
        return np.load(path)

    return load


@pytest.fixture
def scene():
    """A noisy two-coloured picture and energies of `labels` classes that follow it."""

    def make(height: int, width: int, labels: int, seed: int = 0, count: int | None = None):
        rng = np.random.default_rng(seed)
        lead = () if count is None else (count,)
        image = rng.integers(0, 60, (*lead, height, width, 3))
        image[..., width // 2 :, :] += 150
        energy = rng.normal(0, 1, (*lead, labels, height, width)).astype(np.float32)
        energy[..., 0, :, width // 2 :] -= 1
        return energy, image.astype(np.uint8)

    return make
