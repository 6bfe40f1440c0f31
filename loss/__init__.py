"""Losses with a published definition, as pure functions of tensors."""

from loss.affinity import affinity_terms
from loss.bag import bag_tag_loss, bag_weight
from loss.balanced import balanced_seed_loss
from loss.constrain import constrain_loss
from loss.expand import decay_for, expand_loss, rank_average, rank_pool
from loss.score import floor_softmax
from loss.seed import seed_loss
