"""Balanced seeding: background and foreground seeds have the same weight in total."""

import torch
from torch import Tensor


def balanced_seed_loss(score: Tensor, seed: Tensor) -> Tensor:
    """Mean cross entropy of the background seeds plus mean cross entropy of the foreground seeds.

    Args:
        score: class probabilities in (0, 1], background first, (N, C, H, W).
        seed: true where a class has a seed, (N, C, H, W), bool or 0 / 1.

    Returns:
        Scalar, averaged over images. A term without seeds is 0.

    Source: Huang et al., CVPR 2018 (DSRG), balanced seeding loss.
    """
    seed = seed.to(score.dtype)
    log = torch.log(score.clamp_min(torch.finfo(score.dtype).eps))
    hits = (seed * log).sum(dim=(2, 3))
    count = seed.sum(dim=(2, 3))
    background = hits[:, 0] / count[:, 0].clamp_min(1)
    foreground = hits[:, 1:].sum(dim=1) / count[:, 1:].sum(dim=1).clamp_min(1)
    return -(background + foreground).mean()
