"""The order in which a training sees its images."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


class Draws(Sampler):
    """Batches of (index, draw): every image once an epoch, in an order that the seed decides.

    The draw number counts samples since the first step; order and augmentation are functions of
    the seed and of it, so that a run can begin at any step. Steps `first` to `last` - 1 are
    delivered, of each the `share` of a process; images with one number in `bags`
    (datalist/bag.py) follow one another.
    """

    def __init__(
        self,
        length: int,
        batch: int,
        first: int,
        last: int,
        seed: int,
        share: slice = slice(None),
        bags: NDArray[np.int64] | None = None,
    ):
        self.length, self.batch, self.first, self.last, self.seed = length, batch, first, last, seed
        self.share, self.bags = share, bags

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, np.empty(0, int)
        for step in range(self.first, self.last):
            batch = []
            for draw in range(step * self.batch, (step + 1) * self.batch):
                if draw // self.length != epoch:
                    epoch = draw // self.length
                    rng = np.random.default_rng([self.seed, epoch])
                    order = rng.permutation(self.length)
                    if self.bags is not None:
                        rank = rng.permutation(self.bags.max() + 1)
                        order = order[np.argsort(rank[self.bags[order]], kind="stable")]
                batch.append((int(order[draw % self.length]), draw))
            yield batch[self.share]
