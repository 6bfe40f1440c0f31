"""Pure functions with a published definition; none of them knows a method, a data set or a size."""

from loss.balanced import balanced_seed_loss
from loss.constrain import constrain_loss
from loss.expand import decay_for, expand_loss, rank_pool
from loss.grow import grow_seeds
from loss.mix import (
    best_labels,
    certain_labels,
    class_region,
    edge_labels,
    object_region,
    paste,
    rectangle_region,
)
from loss.pamr import pamr
from loss.scg import self_correlation_map
from loss.score import floor_softmax
from loss.seed import seed_loss

__all__ = [
    "balanced_seed_loss",
    "best_labels",
    "certain_labels",
    "class_region",
    "constrain_loss",
    "decay_for",
    "edge_labels",
    "expand_loss",
    "floor_softmax",
    "grow_seeds",
    "object_region",
    "pamr",
    "paste",
    "rank_pool",
    "rectangle_region",
    "seed_loss",
    "self_correlation_map",
]
