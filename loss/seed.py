"""Seeding: the network must give each cue position its cue's class."""

import torch
from torch import Tensor


def seed_loss(score: Tensor, cue: Tensor) -> Tensor:
    """Cross entropy averaged over an image's cue positions, then over images.

    Args:
        score: class probabilities in (0, 1], (N, C, H, W).
        cue: true where a class is known to be, (N, C, H, W), bool or 0 / 1.

    Returns:
        Scalar. An image without any cue contributes 0.

    Source: Kolesnikov and Lampert, ECCV 2016, L_seed; background and foreground cues share
    one normaliser. Differs: the guard for images without cues.
    """
    # A cue marks one element in a hundred: taking those alone spares the logarithm of the others.
    place = (cue if cue.dtype == torch.bool else cue > 0).flatten().nonzero()[:, 0]
    log = torch.log(score.flatten()[place].clamp_min(torch.finfo(score.dtype).eps))
    image = torch.div(place, score[0].numel(), rounding_mode="floor")
    count = torch.bincount(image, minlength=len(score))
    return -(log / count[image]).sum() / len(score)
