"""Cross entropy of pixel affinities (IRN)."""

import torch
from torch import Tensor

from base import IGNORE, UserError
from refine.affinity import pairs, shift

EPS = 1e-5


def affinity_terms(boundary: Tensor, mask: Tensor, radius: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Cross entropy of the affinities of labelled pairs, by group of pairs.

    Args:
        boundary: boundary strength in [0, 1], (N, H, W).
        mask: class indices, background 0, 255 = ignore, (N, H, W).
        radius: pixels; pairs nearer than this count whose source has its whole neighbourhood inside
            the map (see `refine.affinity.shift`).

    Returns:
        For "foreground" (both of one class), "background" and "different": sum of the losses
        and number of pairs. The loss of IRN is (background / 2 + foreground / 2 + different) / 2
        of the means.

    Raises:
        UserError: for maps that are smaller than the neighbourhood of one pixel.

    Source: Ahn et al., CVPR 2019 (IRN), step/train_irn.py: -log(a + 1e-5) for equal labels,
    -log(1 + 1e-5 - a) for different ones.
    """
    height, width = boundary.shape[-2:]
    if height < radius or width < 2 * radius - 1:
        raise UserError(
            f"a boundary map of {height} x {width} cells is too small for pairs within radius "
            f"{radius}: give a larger --size or a smaller --radius"
        )
    zero = boundary.sum() * 0
    total = dict.fromkeys(("foreground", "background", "different"), (zero, zero))
    first = shift(mask, (0, 0), radius)
    for step, affinity in pairs(boundary, radius):
        second = shift(mask, step, radius)
        known = (first != IGNORE) & (second != IGNORE)
        same, background = known & (first == second), first == 0
        attract, repel = -torch.log(affinity + EPS), -torch.log(1 + EPS - affinity)
        for group, member, loss in (
            ("foreground", same & ~background, attract),
            ("background", same & background, attract),
            ("different", known & (first != second), repel),
        ):
            summed, count = total[group]
            total[group] = summed + (loss * member).sum(), count + member.sum()
    return total
