"""Functions with a published definition that refine maps, grow seeds or label what is certain."""

from refine.affinity import random_walk
from refine.certain import irn_labels, refine_labels
from refine.crf import refine_scores
from refine.grow import grow_seeds
from refine.mix import (
    best_labels,
    certain_labels,
    class_region,
    edge_labels,
    object_region,
    paste,
    rectangle_region,
)
from refine.pamr import pamr
from refine.scg import self_correlation_map
