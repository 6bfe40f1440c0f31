"""Measure the seeds of DSRG's first step: how much they cover, and how often they are right.

    python train.py dsrg --cue CUES --keep-every 50 --out RUN
    python -m script.study.growth RUN [RUN ...]

Prints the means over the runs at each checkpoint that was kept. The true masks of the training
images are read for this table alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch.utils.data import DataLoader, Subset

from base import IGNORE, UserError, entry
from base.contract import Context
from datalist.augment import warp_mask
from datalist.image import read_mask
from loss import floor_softmax
from method.dsrg import DSRG
from method.target import cues_of
from script.study.shared import open_steps


@dataclass(frozen=True)
class Flags:
    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of train.py dsrg, of one length."""
    images: int = 200
    """Training images that the numbers are taken on."""


def count(seed: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Cells of seeds, bool (N, C, h, w): all and covered; of foreground and of background seeds
    where the class is known, (N, h, w), all and right."""
    known = seed & (truth != IGNORE)[:, None]
    right = known & (truth[:, None] == np.arange(seed.shape[1])[:, None, None])
    parts = [x[:, k].sum() for k in (slice(1, None), slice(0, 1)) for x in (known, right)]
    return np.array([seed[:, 0].size, seed.any(1).sum(), *parts])


@torch.no_grad()
def measure(stage: Any, images: int) -> np.ndarray:
    """Coverage and precision of foreground and background, of the cues and of the seeds that grew
    from them, percent, (2, 3)."""
    data = stage.dataset()
    data.mirror = False
    total = np.zeros((2, 6))
    for batch in DataLoader(Subset(data, range(min(images, len(data)))), 20):
        score = floor_softmax(stage.network(batch["image"]), stage.recipe.dsrg.floor)
        paths = map(stage.spec.mask_path, batch["id"])
        truth = np.stack([warp_mask(read_mask(path), score.shape[2:]) for path in paths])
        seeds = cues_of(batch, score), stage.targets(batch, score, Context())[1]
        total += [count(seed.numpy(), truth) for seed in seeds]
    return 100 * total[:, 1::2] / total[:, ::2].clip(1)


def main(flags: Flags) -> None:
    numbers: dict[int, list[np.ndarray]] = {}
    for run in flags.runs:
        for step, stage in open_steps(run):
            if not isinstance(stage, DSRG):
                raise UserError(f"{run} is not a run of train.py dsrg")
            numbers.setdefault(step, []).append(measure(stage, flags.images))
    means = {step: np.mean(rows, 0) for step, rows in numbers.items()}
    print("| seeds after step | cover % | foreground right % | background right % |")
    print("|---" * 4 + "|")
    first = next(iter(means.values()))[0]
    for title, row in {"the cues": first, **{k: rows[1] for k, rows in means.items()}}.items():
        print(f"| {title} | " + " | ".join(f"{value:.1f}" for value in row) + " |")


if __name__ == "__main__":
    with entry():
        main(tyro.cli(Flags, description=__doc__))
