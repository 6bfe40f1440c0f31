"""The dense CRF on class scores, as at test."""

import numpy as np
from numpy.typing import NDArray

import densecrf


def refine_scores(
    score: NDArray[np.float32],
    image: NDArray[np.uint8],
    preset: densecrf.Preset,
    least: float = 0.0,
) -> NDArray[np.float32]:
    """CRF marginals of class scores.

    Args:
        score: in [0, 1], float32 (C, H, W).
        image: RGB, (H, W, 3).
        preset: kernels and iterations.
        least: classes whose score is nowhere as high are left out; they get 0.

    Returns:
        (C, H, W).

    Source: deploy/demo.py of SEC: probabilities clipped at 1e-5, energies their negative log.
    Differs: `least`, ours.
    """
    if least:
        highest = score.max((1, 2))
        kept = highest >= min(least, highest.max())
        if not kept.all():
            refined = np.zeros_like(score)
            refined[kept] = refine_scores(score[kept], image, preset) if kept.sum() > 1 else 1
            return refined
    energy = np.empty(score.shape, np.float32)
    for target, channel in zip(energy, score):  # one map at a time stays in the cache
        np.maximum(channel, 1e-5, out=target)
        np.negative(np.log(target, out=target), out=target)
    return densecrf.mean_field(energy, image, preset.kernels, preset.steps, threads=1)
