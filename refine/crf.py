"""The dense CRF on class scores, as at test."""

import numpy as np
from numpy.typing import NDArray

import densecrf


def refine_scores(
    score: NDArray[np.float32], image: NDArray[np.uint8], preset: densecrf.Preset
) -> NDArray[np.float32]:
    """CRF marginals of class scores.

    Args:
        score: in [0, 1], float32 (C, H, W).
        image: RGB, (H, W, 3).
        preset: kernels and iterations.

    Returns:
        (C, H, W).

    Source: deploy/demo.py of SEC: probabilities clipped at 1e-5, energies their negative log.
    """
    energy = np.empty(score.shape, np.float32)
    for target, channel in zip(energy, score):  # one map at a time stays in the cache
        np.maximum(channel, 1e-5, out=target)
        np.negative(np.log(target, out=target), out=target)
    return densecrf.mean_field(energy, image, preset.kernels, preset.steps, threads=1)
