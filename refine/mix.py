"""Labels from a network's own scores, and regions to paste from one image into another."""

import torch
from torch import Tensor

from base import IGNORE
from refine.pamr import neighbours


def certain_labels(
    score: Tensor, tag: Tensor, certain: float = 0.55, uncertain: float = 0.10
) -> Tensor:
    """Label pixels that are certainly a tagged class or certainly background.

    Args:
        score: scores of the foreground classes in [0, 1], (N, K, H, W).
        tag: 1 for each class the image shows, (N, K).
        certain: smallest score of a class.
        uncertain: where the best score is at most this, the label is background.

    Returns:
        Class indices, background 0, int64 (N, H, W); `IGNORE` in between.

    Source: certain filter of RecurSeed, from its released thresholds; the rule is inferred.
    """
    best, index = (score * (tag > 0)[:, :, None, None]).max(dim=1)
    label = torch.where(best >= certain, index + 1, IGNORE)
    return torch.where(best <= uncertain, 0, label)


def edge_labels(score: Tensor, tag: Tensor, certain: float = 0.55, edge: float = 0.2) -> Tensor:
    """Label each pixel with its best class, except on soft contours.

    A pixel has a label where its score is high, or where the score of its class differs much from
    a neighbour's (a sharp edge). On a blurred edge scores are low and change slowly.

    Args:
        score: probabilities in [0, 1], background first, (N, C, H, W).
        tag: 1 for each foreground class the image shows, (N, C - 1); other classes are left out.
        certain: a score of at least this is sure.
        edge: a difference of at least this to one of the eight neighbours is sharp.

    Returns:
        Class indices, int64 (N, H, W); `IGNORE` where neither holds.

    Source: Jo and Yu, RecurSeed and EdgePredictMix: probability differences between adjacent
    pixels express edges. The rule is inferred; the paper's code was not released.
    """
    score = tagged(score, tag)
    best, label = score.max(dim=1)
    jump = torch.zeros_like(best)
    for other in neighbours(score, (1,)):
        there = other.gather(1, label[:, None])[:, 0]
        jump = torch.maximum(jump, (best - there).abs())
    return torch.where((best >= certain) | (jump >= edge), label, IGNORE)


def best_labels(score: Tensor, tag: Tensor) -> Tensor:
    """Best of background and tagged classes at each pixel, int64 (N, H, W); scores as above."""
    return tagged(score, tag).argmax(dim=1)


def tagged(score: Tensor, tag: Tensor) -> Tensor:
    """Scores (N, C, H, W), background first, of classes without a tag (N, C - 1) set to 0."""
    allowed = torch.cat((torch.ones_like(tag[:, :1]), tag), dim=1) > 0
    return score * allowed[:, :, None, None]


def object_region(label: Tensor) -> Tensor:
    """Pixels of foreground classes, bool (N, H, W), of labels (N, H, W)."""
    return (label > 0) & (label != IGNORE)


def class_region(label: Tensor, num_classes: int, draw: Tensor) -> Tensor:
    """Pixels of a random half of an image's classes, the background included.

    Args:
        label: class indices or `IGNORE`, (N, H, W).
        draw: random numbers in [0, 1), (N, num_classes).

    Returns:
        Bool (N, H, W).

    Source: Olsson et al., WACV 2021 (ClassMix).
    """
    present = torch.stack([(label == k).flatten(1).any(1) for k in range(num_classes)], dim=1)
    order = torch.where(present, draw, 2).argsort(dim=1).argsort(dim=1)
    chosen = order < (present.sum(dim=1, keepdim=True) + 1) // 2
    chosen = torch.cat((chosen & present, torch.zeros_like(chosen[:, :1])), dim=1)
    index = label.clamp_max(num_classes).flatten(1)  # IGNORE becomes a class that is never chosen
    return chosen.gather(1, index).view_as(label)


def rectangle_region(size: tuple[int, int], draw: Tensor) -> Tensor:
    """A rectangle of half the image's area, with random shape and position.

    Args:
        draw: random numbers in [0, 1), (N, 3): shape, row, column.

    Returns:
        Bool (N, height, width).

    Source: French et al., BMVC 2020 (CutMix for segmentation).
    """
    height, width = size
    tall = 0.5 ** draw[:, 0]  # share of the height; the width has the rest of the half
    rows = (tall * height).round()
    columns = (0.5 / tall * width).round()
    top = (draw[:, 1] * (height - rows + 1)).floor()
    left = (draw[:, 2] * (width - columns + 1)).floor()
    row = torch.arange(height, device=draw.device)
    column = torch.arange(width, device=draw.device)
    inside_rows = (row >= top[:, None]) & (row < (top + rows)[:, None])
    inside_columns = (column >= left[:, None]) & (column < (left + columns)[:, None])
    return inside_rows[:, :, None] & inside_columns[:, None, :]


def paste(target: Tensor, source: Tensor, region: Tensor) -> Tensor:
    """`source` where `region` (N, H, W) holds, else `target`; both (N, H, W) or (N, C, H, W)."""
    return torch.where(region if target.ndim == 3 else region[:, None], source, target)
