"""SEAM: equivariant class activation maps that agree with their refined maps."""

import torch
from torch import Tensor, nn

from loss.expand import rank_average


def tag_loss(cam: Tensor, tag: Tensor, decay: float = 1.0) -> Tensor:
    """Multi-label soft margin loss of the pooled maps, mean over classes and images.

    Args:
        cam: class activation maps, any real numbers, (N, K, h, w).
        tag: 1 for each class the image shows, (N, K).
        decay: 1 for the maps' averages, as published; below, the decay of a pooling by rank, in
            (0, 1), of a grid of 41 x 41 (ours).

    Returns:
        Scalar > 0.

    Source: Wang et al., CVPR 2020 (SEAM), classification loss of one view.
    """
    logit = pooled_maps(cam, decay)
    return nn.functional.multilabel_soft_margin_loss(logit, tag.to(cam.dtype))


def pooled_maps(cam: Tensor, decay: float = 1.0) -> Tensor:
    """Logits (N, K) of maps (N, K, h, w); `decay` as of `tag_loss`."""
    return cam.mean(dim=(2, 3)) if decay == 1 else rank_average(cam, decay)


def rvmin_loss(refined: Tensor, share: float = 0.25) -> Tensor:
    """Take the maximum over the classes at each position, and average the lowest of these.

    It prevents the refinement from spreading a class over the whole image.

    Args:
        refined: refined maps of the tagged classes, 0 for the others, (N, K, h, w).
        share: share of the positions, those of the lowest values, in (0, 1].

    Returns:
        Scalar >= 0.

    Source: released SEAM code, adaptive minimum pooling.
    """
    highest = refined.amax(dim=1).flatten(1)
    count = max(1, int(share * highest.shape[1]))
    return highest.topk(count, dim=1, largest=False).values.relu().mean()


def equivariance_loss(first: Tensor, second: Tensor) -> Tensor:
    """Mean absolute difference, in [0, 1], of the maps of two views on the same grid: in [0, 1], 0
    for classes not tagged, (N, K, h, w).

    Source: SEAM, equivariant regularisation (ER).
    """
    return (first - second).abs().mean()


def cross_equivariance_loss(
    refined: Tensor, other: Tensor, share: float = 0.2, background: bool = True
) -> Tensor:
    """Distance of refined maps from the strongest classes of the other view's plain maps.

    Args:
        refined: refined maps in [0, 1], 0 for classes not tagged, (N, C, h, w).
        other: plain maps of the other view on the same grid, a constant target, as `refined`.
        share: share of an image's values, those of the largest distance, in (0, 1].
        background: whether the first channel is the background.

    Returns:
        Scalar in [0, 1].

    Source: SEAM, equivariant cross regularisation (ECR) of one direction.
    """
    distance = (max_onehot(other.detach(), background) - refined).abs().flatten(1)
    count = max(1, int(share * distance.shape[1]))
    return distance.topk(count, dim=1).values.mean()


def max_onehot(score: Tensor, background: bool = True) -> Tensor:
    """Set all but the highest foreground value of each position to 0.

    Args:
        score: any real numbers, (N, C, h, w).
        background: whether the first channel is the background, which stays as it is.

    Returns:
        (N, C, h, w).

    Source: `max_onehot` of YudeWang/SEAM; without background, wjlbnw/SegmentationFromLocalization.
    """
    kept, foreground = score.split((int(background), score.shape[1] - int(background)), dim=1)
    highest = foreground.amax(dim=1, keepdim=True)
    return torch.cat((kept, torch.where(foreground == highest, foreground, 0)), dim=1)
