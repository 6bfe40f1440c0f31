"""Pure functions with a published definition; none of them knows a method, a data set or a size."""

from loss.balanced import balanced_seed_loss
from loss.constrain import constrain_loss
from loss.expand import decay_for, expand_loss, rank_pool
from loss.grow import grow_seeds
from loss.score import floor_softmax
from loss.seed import seed_loss

__all__ = [
    "balanced_seed_loss",
    "constrain_loss",
    "decay_for",
    "expand_loss",
    "floor_softmax",
    "grow_seeds",
    "rank_pool",
    "seed_loss",
]
