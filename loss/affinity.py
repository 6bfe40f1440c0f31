"""Cross entropy of pixel affinities (IRN)."""

import torch
from torch import Tensor

from base import IGNORE
from refine.affinity import pairs, window

EPS = 1e-5


def affinity_terms(boundary: Tensor, mask: Tensor, radius: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Cross entropy of the affinities of labelled pairs, by kind of pair.

    Args:
        boundary: boundary strength in [0, 1], (N, H, W).
        mask: class indices, background 0, 255 = ignore, (N, H, W).
        radius: pixels; pairs farther apart are left out.

    Returns:
        For "foreground" (both of one class), "background" and "different": sum of the losses
        and number of pairs. The loss of IRN is (background + foreground) / 4 + different / 2 of
        the means.

    Source: Ahn et al., CVPR 2019 (IRN).
    """
    zero = boundary.sum() * 0
    total = {kind: [zero, zero] for kind in ("foreground", "background", "different")}
    for down, right, affinity in pairs(boundary, radius):
        first = window(mask, down, right, (0, 0))
        second = window(mask, down, right, (down, right))
        known = (first != IGNORE) & (second != IGNORE)
        same, nothing = known & (first == second), first == 0
        close, apart = -torch.log(affinity + EPS), -torch.log(1 + EPS - affinity)
        for kind, where, loss in (
            ("foreground", same & ~nothing, close),
            ("background", same & nothing, close),
            ("different", known & (first != second), apart),
        ):
            total[kind][0] = total[kind][0] + (loss * where).sum()
            total[kind][1] = total[kind][1] + where.sum()
    return {kind: (loss, count) for kind, (loss, count) in total.items()}
