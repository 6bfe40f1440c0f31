"""Pure functions with a published definition; none of them knows a method, a data set or a size."""

from loss.constrain import constrain_loss
from loss.expand import decay_for, expand_loss, rank_pool
from loss.score import floor_softmax
from loss.seed import seed_loss

__all__ = [
    "constrain_loss",
    "decay_for",
    "expand_loss",
    "floor_softmax",
    "rank_pool",
    "seed_loss",
]
