"""Softmax with a floor, so that the losses can take its logarithm."""

import torch
from torch import Tensor


def floor_softmax(logit: Tensor, floor: float = 1e-4) -> Tensor:
    """Softmax over classes plus a constant, normalised again.

    Args:
        logit: any real numbers, (N, C, H, W).
        floor: added to each probability before normalising, in [0, 1).

    Returns:
        Probabilities in (0, 1), (N, C, H, W), in at least float32.

    Source: softmax layer of the released SEC code, floor 1e-4.
    """
    if logit.dtype in (torch.float16, torch.bfloat16):
        logit = logit.float()
    # Probabilities sum to 1, so the divisor is the same at every position.
    return (torch.softmax(logit, dim=1) + floor) / (1 + logit.shape[1] * floor)
