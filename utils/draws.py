"""The order in which a training sees its images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class Draws(Sampler):
    """Batches of (index, draw): every image once an epoch, in an order that the seed decides.

    The draw number counts samples since the first step; order and augmentation are functions of
    the seed and of it, so that a run can begin at any step.

    Args:
        length: images in the data set.
        batch: images a step.
        first, last: steps to deliver, `first` included, `last` not.
        seed: seed of the order.
        share: part of each batch to deliver, where several processes split it.
    """

    def __init__(
        self,
        length: int,
        batch: int,
        first: int,
        last: int,
        seed: int,
        share: slice = slice(None),
    ):
        self.length, self.batch, self.first, self.last, self.seed = length, batch, first, last, seed
        self.share = share

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, np.empty(0, int)
        for step in range(self.first, self.last):
            batch = []
            for draw in range(step * self.batch, (step + 1) * self.batch):
                if draw // self.length != epoch:
                    epoch = draw // self.length
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
                batch.append((int(order[draw % self.length]), draw))
            yield batch[self.share]
