"""Softmax that never reaches zero, so that every loss may take its logarithm."""

import torch
from torch import Tensor


def floor_softmax(logit: Tensor, floor: float = 1e-4) -> Tensor:
    """Softmax over classes, raised by a floor and normalised again.

    Args:
        logit: any real numbers, (N, C, H, W).
        floor: added to each probability before normalising, in [0, 1).

    Returns:
        Probabilities in (0, 1), (N, C, H, W), in at least float32.

    Source: softmax layer of the released SEC code, floor 1e-4.
    """
    if logit.dtype in (torch.float16, torch.bfloat16):
        logit = logit.float()
    # Probabilities sum to 1: what they are divided by after the floor is a number, not a map.
    return (torch.softmax(logit, dim=1) + floor) / (1 + logit.shape[1] * floor)
