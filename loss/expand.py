"""Expansion: tagged classes must cover a plausible share of the image, absent classes none."""

from typing import TypeVar

import torch
from torch import Tensor

from loss.bag import bag_weight, number_of_bags

Decay = TypeVar("Decay", float, Tensor)


def decay_for(decay: Decay, reference: int, positions: int) -> Decay:
    """Convert a decay from one grid size to another.

    The share of positions that carries half of the weight depends on ``decay ** positions``
    only. This function keeps that number, and so the share (0.996 on 41 x 41: 10 %; 0.999: 30 %).

    Args:
        decay: ratio of neighbouring weights on the reference grid, in [0, 1].
        reference: number of positions of the reference grid.
        positions: number of positions of the new grid.

    Returns:
        Decay for the new grid, in [0, 1].

    Source: ours; exact for the geometric weights of Kolesnikov and Lampert, ECCV 2016.
    """
    return decay ** (reference / positions)


def rank_pool(score: Tensor, decay: float) -> Tensor:
    """Average each score map with weights that fall geometrically by rank.

    Args:
        score: class probabilities in [0, 1], (..., H, W).
        decay: ratio of neighbouring weights; 0 is max pooling, 1 is mean pooling.

    Returns:
        Pooled probability of each map, (...).

    Source: Kolesnikov and Lampert, ECCV 2016, global weighted rank pooling. Differs: any H, W.
    """
    flat = score.flatten(-2)
    if decay == 0:
        return flat.amax(dim=-1)
    return flat.sort(dim=-1, descending=True).values @ rank_weight(flat, decay)


def rank_average(maps: Tensor, decay: float) -> Tensor:
    """Pool maps (N, C, h, w) to (N, C) by rank; `decay` is that of a grid of 41 x 41."""
    return rank_pool(maps, decay_for(decay, 41 * 41, maps[0, 0].numel()))


def rank_weight(flat: Tensor, decay: float | Tensor) -> Tensor:
    """Weights 1, decay, decay^2, ... that sum to 1, for maps (..., positions), (..., positions)."""
    rank = torch.arange(flat.shape[-1], dtype=torch.float64, device=flat.device)
    weight = decay[..., None] ** rank if isinstance(decay, Tensor) else decay**rank
    return (weight / weight.sum(-1, keepdim=True)).to(flat.dtype)


def expand_loss(
    score: Tensor,
    tag: Tensor,
    decay_foreground: float | Tensor,
    decay_background: float,
    bag: Tensor | None = None,
) -> Tensor:
    """Image-level log loss on rank-pooled scores.

    Args:
        score: class probabilities in [0, 1], background first, (N, C, H, W).
        tag: 1 for each foreground class the image shows, (N, C - 1).
        decay_foreground: decay for the classes of the image (see `decay_for`); one for all, or one
            for each class, (C - 1,).
        decay_background: decay for the background. Absent classes are max-pooled.
        bag: of images that are tiles, which have the tags of their whole picture, the number of
            the picture, (N,). The pooled score of a present class, and of the background, is the
            maximum over the tiles of a picture.

    Returns:
        Scalar: the three terms (present, absent, background) summed, averaged over images or bags.
        A term without classes (no tags, or all tags) is 0.

    Source: Kolesnikov and Lampert, ECCV 2016, L_expand. Differs: the guards; only the maps
    of present classes and the background are sorted, which changes no value; bags are ours.
    """
    eps = torch.finfo(score.dtype).eps
    present = tag > 0
    absent = ~present

    def image_mean(log: Tensor, member: Tensor, weight: Tensor | None = None) -> Tensor:
        """Mean of `log` over an image's member classes, then over images."""
        share = member.to(log.dtype) / member.sum(dim=1, keepdim=True).clamp_min(1)
        if weight is not None:
            share = share * weight
        return (log * share[member]).sum() / len(member)

    # One call sorts all maps, the backgrounds first: torch distributes a long call over threads.
    every = torch.arange(len(score), device=score.device)
    image, label = present.nonzero(as_tuple=True)
    maps = score[torch.cat((every, image)), torch.cat((0 * every, label + 1))].flatten(1)
    ordered = maps.sort(dim=1, descending=True).values
    background = ordered[: len(score)] @ rank_weight(maps, decay_background)
    decay = decay_foreground
    if isinstance(decay, Tensor):
        decay = decay.to(score.device)[label]
    pooled = (ordered[len(score) :, None] @ rank_weight(maps, decay)[..., None]).flatten()
    # `max` has its gradient at one position and is faster than `amax`, which divides it over ties.
    peak = score.flatten(2).max(dim=2).values[:, 1:][absent]
    log_pooled, log_empty = pooled.clamp_min(eps).log(), (1 - peak).clamp_min(eps).log()
    log_background = background.clamp_min(eps).log()
    if bag is None:
        return (
            -image_mean(log_pooled, present) - image_mean(log_empty, absent) - log_background.mean()
        )
    weight = bag_weight(score.new_zeros(tag.shape).masked_scatter(present, pooled), tag, bag)
    behind = torch.ones_like(background[:, None])
    total = image_mean(log_pooled, present, weight) + image_mean(log_empty, absent, weight)
    total += image_mean(log_background, behind > 0, bag_weight(background[:, None], behind, bag))
    return -total * len(score) / number_of_bags(bag)
