"""Seeding: cross entropy at the cues."""

import torch
from torch import Tensor


def seed_loss(score: Tensor, cue: Tensor) -> Tensor:
    """Cross entropy averaged over an image's cue positions, then over images.

    Args:
        score: class probabilities in (0, 1], (N, C, H, W).
        cue: true where a class has a cue, (N, C, H, W), bool or 0 / 1.

    Returns:
        Scalar. An image without any cue contributes 0.

    Source: Kolesnikov and Lampert, ECCV 2016, L_seed; background and foreground cues share
    one normaliser. Differs: the guard for images without cues.
    """
    # About one element in a hundred is a cue: the logarithm is computed for these only.
    index = (cue if cue.dtype == torch.bool else cue > 0).flatten().nonzero()[:, 0]
    log = torch.log(score.flatten()[index].clamp_min(torch.finfo(score.dtype).eps))
    image = torch.div(index, score[0].numel(), rounding_mode="floor")
    count = torch.bincount(image, minlength=len(score))
    return -(log / count[image]).sum() / len(score)
