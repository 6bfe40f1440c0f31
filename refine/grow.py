"""Seeded region growing: seeds grow into connected regions of high scores."""

import cv2
import numpy as np
import torch
from torch import Tensor

UNSET = -1
"""Value of `region_map` at positions without a class."""


def region_map(
    score: Tensor, seed: Tensor, tag: Tensor, threshold_foreground: float,
    threshold_background: float,
) -> Tensor:  # fmt: skip
    """Class that each position may grow into.

    This is the most probable class among background and tags where its score is above the
    threshold, else the class of the seed (of several, the highest index).

    Args:
        score: probabilities in [0, 1], background first, (N, C, H, W).
        seed: true where a class has a seed, (N, C, H, W).
        tag: 1 for each foreground class the image shows, (N, C - 1).
        threshold_foreground: a tagged class needs a score above this.
        threshold_background: the background needs a score above this.

    Returns:
        Class indices, int64 (N, H, W), `UNSET` where there is none.

    Raises:
        ValueError: where shapes do not fit.

    Source: Huang et al., CVPR 2018 (DSRG), similarity criterion with two thresholds.
    """
    check_shapes(score, seed, tag)
    # The maximum over bytes is ten times as fast as over wider integers.
    dtype = torch.uint8 if seed.shape[1] < 256 else torch.int16
    number = torch.arange(1, seed.shape[1] + 1, dtype=dtype, device=seed.device)
    painted = (seed.to(dtype) * number.view(1, -1, 1, 1)).amax(dim=1).long() + UNSET
    # Only background and tagged classes are compared. The lists of images with fewer classes are
    # filled up with the background, which changes no maximum.
    allowed = candidates(tag)
    most = int(allowed.sum(dim=1).max())
    listed = allowed.logical_not().sort(dim=1, stable=True).indices[:, :most]
    listed = listed * allowed.gather(1, listed)
    image = torch.arange(len(score), device=score.device)[:, None]
    best, rank = score[image, listed].max(dim=1)
    index = listed.gather(1, rank.flatten(1)).view_as(rank)
    limits = best.new_tensor((threshold_background, threshold_foreground))
    needed = torch.where(index == 0, *limits)
    return torch.where(best > needed, index, painted)


def grow_seeds(
    score: Tensor,
    seed: Tensor,
    tag: Tensor,
    threshold_foreground: float = 0.85,
    threshold_background: float = 0.99,
) -> Tensor:
    """Grow seeds to the 8-connected regions of their class that they touch.

    Growth begins at the given seeds, not at those of an earlier step. A position with exactly one
    seed stays with that seed's class, though a region of another class may connect through it.

    Args:
        score, seed, tag, threshold_foreground, threshold_background: as in `region_map`, which
            raises for shapes that do not fit.

    Returns:
        Grown seeds, bool (N, C, H, W) on the device of `score`: every seed, and what was added.

    Source: Huang et al., CVPR 2018 (DSRG), deep seeded region growing; equal to the released
    layer on every position. One pass of connected components is the fixpoint of the growth,
    for the criterion does not depend on the region grown so far.
    """
    seed = seed.bool()
    region = region_map(score, seed, tag, threshold_foreground, threshold_background)
    # One map for each pair of an image and one of its classes: few, whatever C is.
    image, label = candidates(tag).nonzero(as_tuple=True)
    mask = region[image] == label[:, None, None]
    start = seed[image, label] & mask
    touched = (flood_cpu if mask.device.type == "cpu" else flood)(mask, start)
    held = (seed.sum(dim=1, dtype=torch.int16) == 1)[image]
    grown = seed.clone()
    grown[image, label] |= touched & ~held
    return grown


def flood(mask: Tensor, start: Tensor) -> Tensor:
    """Parts of masks, bool (M, H, W), that are 8-connected to a start, a subset of them.

    Spreads with a 3 x 3 maximum, as often as the longest path has positions.
    """
    reached = start.to(torch.float32)[:, None]
    open_ = mask.to(torch.float32)[:, None]
    # The comparison synchronises a GPU: several poolings are done between two comparisons.
    while True:
        before = reached
        for _ in range(8):
            reached = torch.nn.functional.max_pool2d(reached, 3, 1, 1) * open_
        if torch.equal(before, reached):
            return reached[:, 0] > 0


def flood_cpu(mask: Tensor, start: Tensor) -> Tensor:
    """The same as `flood` in CPU memory, by connected components of all maps in one call."""
    count, height, width = mask.shape
    if not count:
        return mask.clone()
    # The maps are stacked with an empty row between them, so that they are not connected.
    tall = np.zeros((count, height + 1, width), np.uint8)
    tall[:, :height] = mask.numpy()
    total, part = cv2.connectedComponents(tall.reshape(-1, width), connectivity=8)
    part = part.reshape(tall.shape)[:, :height]
    keep = np.zeros(total, bool)
    keep[part[start.numpy()]] = True
    keep[0] = False
    return torch.from_numpy(keep.take(part))


def candidates(tag: Tensor) -> Tensor:
    """Classes that an image may hold, background and tags, bool (N, C), of tags (N, C - 1)."""
    return torch.nn.functional.pad(tag > 0, (1, 0), value=True)


def check_shapes(score: Tensor, seed: Tensor, tag: Tensor) -> None:
    """Raise ValueError where score, seed and tag do not belong together."""
    if score.ndim != 4 or seed.shape != score.shape:
        raise ValueError(
            f"score and seed are (N, C, H, W), not {tuple(score.shape)} and {tuple(seed.shape)}"
        )
    if tag.shape != (score.shape[0], score.shape[1] - 1):
        raise ValueError(
            f"tag is (N, C - 1) = ({score.shape[0]}, {score.shape[1] - 1}), without background, "
            f"not {tuple(tag.shape)}"
        )
