"""Tags of a whole picture for the tiles of it: some tile shows the class, not every one."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def bag_weight(score: Tensor, tag: Tensor, bag: Tensor) -> Tensor:
    """How much each class counts at each tile.

    A class of the picture counts at the tile where it scores highest, so that the weighted loss is
    that of the maximum over the bag (several that score alike share the weight). A class that the
    picture does not show is absent from every tile, and counts at all of them alike.

    Args:
        score: score of each class at each tile, pooled over its positions, (N, K).
        tag: 1 for each class that the picture shows, the same for its tiles, (N, K).
        bag: number of the bag of each tile, (N,).

    Returns:
        Weights, (N, K), without gradient; those of a class at the tiles of a bag sum to 1.

    Source: ours; the maximum over a bag is that of multiple instance learning (Maron and
    Lozano-Perez, NIPS 1997).
    """
    score = score.detach()
    _, bag, count = bag.unique(return_inverse=True, return_counts=True)
    row = bag[:, None].expand_as(score)
    peak = score.new_zeros(len(count), score.shape[1])
    peak = peak.scatter_reduce(0, row, score, "amax", include_self=False)
    highest = (score == peak[bag]).to(score.dtype)
    alike = torch.zeros_like(peak).scatter_add(0, row, highest)
    return torch.where(tag > 0, highest / alike[bag], 1 / count[bag][:, None].to(score.dtype))


def bag_tag_loss(logit: Tensor, tag: Tensor, bag: Tensor) -> tuple[Tensor, Tensor]:
    """Multi-label logistic loss on the maximum over each bag.

    Args:
        logit, tag, bag: of each tile, (N, K), (N, K) and (N,), as of `bag_weight`.

    Returns:
        The mean over classes, summed over bags, and the number of bags. The quotient is
        torch's `multilabel_soft_margin_loss` where each tile is a bag of its own.
    """
    loss = binary_cross_entropy_with_logits(logit, tag.to(logit.dtype), reduction="none")
    return (bag_weight(logit, tag, bag) * loss).mean(1).sum(), number_of_bags(bag)


def number_of_bags(bag: Tensor) -> Tensor:
    """How many bags there are, a scalar, in the numbers of bags (N,)."""
    return torch.tensor(len(bag.unique()), device=bag.device)
