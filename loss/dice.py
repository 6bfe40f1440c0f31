"""Losses of soft masks."""

import torch
from torch import Tensor


def dice_loss(first: Tensor, second: Tensor, valid: Tensor | None = None) -> Tensor:
    """One minus the Dice coefficient of two soft masks, mean over pairs.

    Args:
        first, second: maps in [0, 1], (N, H, W).
        valid: where a pixel counts, bool or 0 / 1, (N, H, W); None: everywhere.

    Returns:
        Scalar in [0, 1). It is 0 for two empty masks.

    Raises:
        ValueError: for different shapes.

    Source: wjlbnw/SegmentationFromLocalization, (2 sum ab + 1) / (sum a + sum b + 1). Differs:
    pixels without a class do not count.
    """
    if first.shape != second.shape or (valid is not None and valid.shape != first.shape):
        raise ValueError(
            f"masks must have the same shape, not {tuple(first.shape)}, {tuple(second.shape)}"
        )
    if valid is not None:
        first, second = first * valid, second * valid
    both = (first * second).flatten(1).sum(dim=1)
    each = first.flatten(1).sum(dim=1) + second.flatten(1).sum(dim=1)
    return (1 - (2 * both + 1) / (each + 1)).mean()


def entropy_loss(mask: Tensor, truth: Tensor, valid: Tensor, eps: float = 1e-6) -> Tensor:
    """Binary cross entropy of a soft mask, mean over the pixels that count.

    Args:
        mask: probabilities in [0, 1], (N, H, W).
        truth: 0 or 1, (N, H, W).
        valid: where a pixel counts, bool or 0 / 1, (N, H, W).

    Returns:
        Scalar >= 0; 0 where no pixel counts.

    Source: ours beside Dice.
    """
    chance = torch.where(truth > 0, mask, 1 - mask).clamp_min(eps)
    return -(chance.log() * valid).sum() / valid.sum().clamp_min(1)
