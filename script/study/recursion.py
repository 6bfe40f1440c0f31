"""Measure RecurSeed's activation maps and their refinements on training images.

    python train.py rsepm --keep-every 75 --out RUN
    python -m script.study.recursion RUN

Prints the mIoU of each type of map, at its best threshold, for each checkpoint that was kept, and
writes those of the last one to RUN/watch.json. The true masks of the training images are read for
this alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch.utils.data import DataLoader, Subset

from base import UserError, entry
from base.file import write_text
from base.tensor import resize
from method.restore import restore
from method.rsepm import RecurSeed
from method.target import inside_box
from refine import best_labels
from utils import checkpoint, metric

THRESHOLDS = np.arange(0.02, 0.9, 0.02)
MAPS = ("cam", "correlated", "refined", "decoder")


@dataclass(frozen=True)
class Flags:
    run: tyro.conf.Positional[Path]
    """Folder of train.py rsepm."""
    images: int = 80
    """Training images that the numbers are taken on."""


@torch.no_grad()
def measure(stage: RecurSeed, images: int) -> dict[str, float]:
    """MIoU of the averaged network's maps in percent, each at its best threshold."""
    data = stage.images(mask=stage.spec.mask_folder)
    data.mirror = False
    classes = stage.num_classes
    sums = {name: np.zeros((len(THRESHOLDS), classes, classes)) for name in MAPS}
    for batch in DataLoader(Subset(data, range(min(images, len(data)))), batch_size=20):
        mask, tag = batch["mask"], batch["tag"]
        size = mask.shape[-2:]
        grid = [-(-side // stage.recipe.recursion.refine) for side in size]
        inside = inside_box(batch, grid)
        maps, logit, *features = stage.network(batch["image"])
        small = resize(batch["image"].float(), grid)
        refined = stage.recurse(small, tag, inside, maps, features)
        decoded = best_labels(torch.softmax(resize(logit, size), dim=1), tag)
        for k, truth in enumerate(mask.numpy().astype(np.uint8)):
            label = decoded[k].numpy().astype(np.uint8)
            sums["decoder"] += metric.confusion(truth, label, classes)
            for name, score in refined.items():
                score = resize(score[k : k + 1], size)[0].numpy()
                keys = np.arange(1, classes)
                sums[name] += metric.sweep(truth, score, keys, THRESHOLDS, classes)
    best = {name: max(metric.scores(matrix).miou for matrix in sums[name]) for name in MAPS}
    return {name: round(100 * miou, 2) for name, miou in best.items()}


def main(flags: Flags) -> None:
    paths = [*sorted(flags.run.glob("step-*.pt")), *flags.run.glob("last.pt")]
    if not paths:
        raise UserError(f"{flags.run} holds no checkpoint of train.py")
    print(f"{'step':>6}" + "".join(f"{name:>12}" for name in MAPS))
    seen: dict[int, dict[str, float]] = {}
    for path in paths:
        content = checkpoint.load(path)
        step = content["step"]
        if step in seen:
            continue
        stage = restore(path, content)
        if not isinstance(stage, RecurSeed):
            raise UserError(f"{flags.run} is not a run of train.py rsepm")
        stage.network.eval()
        seen[step] = measure(stage, flags.images)
        print(f"{step:>6}" + "".join(f"{value:>12.1f}" for value in seen[step].values()))
    write_text(flags.run / "watch.json", json.dumps(seen[step]))


if __name__ == "__main__":
    with entry():
        main(tyro.cli(Flags, description=__doc__))
