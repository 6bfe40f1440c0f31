"""Train DSRG's first step and measure its seeds: how much of the grid they cover, how often they
are right, and a figure of them at the start, the middle and the end.

    python -m script.study.growth --cue CUES --out DIR [flags of train.py dsrg]

Trains what `train.py dsrg` trains, in the same layout, so test.py takes DIR/last.pt. The true
masks of the training images are read for the report alone.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from base import IGNORE, entry
from base.contract import Context
from base.file import write_text
from datalist.augment import warp_mask
from datalist.image import read_mask
from loss import floor_softmax
from method.dsrg import DSRG
from method.target import class_map
from script.study.shared import device_of, start_stage
from script.study.sheet import marked, sheet
from train import command
from utils.loop import train

BATCH = 20
NUMBERS = ("coverage", "foreground_precision", "background_precision")


@dataclass(frozen=True)
class Flags:
    """What is measured; all flags of `train.py dsrg` follow."""

    images: int = 200
    """Training images that the numbers are taken on."""
    marks: int = 8
    """Measurements after the first one, which is before the first step."""
    rows: int = 4
    """Images in the figure."""
    table: tuple[Path, ...] = ()
    """Train nothing; print the means over these finished runs."""


class Watch:
    """Measures the seeds of DSRG's first step now and then during training, in FOLDER/STEP.npz."""

    def __init__(self, stage: DSRG, flags: Flags, folder: Path):
        self.stage, self.flags, self.folder = stage, flags, folder
        self.data = stage.dataset()
        self.data.mirror = False
        self.last = stage.recipe.solver.total_steps(len(self.data))
        self.count = min(flags.images, len(self.data))

    def __call__(self, step: int) -> None:
        """Measure before some of the steps and after the last."""
        if step == self.last or step % max(1, self.last // self.flags.marks) == 0:
            self.measure(step)

    @torch.no_grad()
    def measure(self, step: int) -> None:
        """Grow the seeds of the first images; numbers and maps go to FOLDER/STEP.npz."""
        stage = self.stage
        training = stage.network.training
        stage.network.eval()
        cue, grown, image = [], [], []
        for batch in self.batches():
            score = floor_softmax(stage.network(batch["image"]), stage.recipe.dsrg.floor)
            _, seed = stage.targets(batch, score, Context())
            cue.append(class_map(batch["cue"]).cpu().numpy())
            grown.append(seed.cpu().numpy())
            image.append(batch["image"].cpu().numpy())
        stage.network.train(training)
        cue, grown, image = map(np.concatenate, (cue, grown, image))
        truth = self.truth(grown.shape[2:])
        rows = slice(self.flags.rows)
        self.folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            self.folder / f"{step:06d}.npz",
            image=image[rows].transpose(0, 2, 3, 1),
            truth=truth[rows],
            cue=cue[rows],
            grown=class_map(torch.from_numpy(grown[rows])).numpy(),
            numbers=np.array([*measure(grown, truth), *measure(one_hot(cue, grown), truth)]),
        )

    def batches(self):
        """The first images with their cues."""
        for first in range(0, self.count, BATCH):
            samples = [self.data[k] for k in range(first, min(first + BATCH, self.count))]
            yield {
                key: torch.stack([s[key] for s in samples]).to(device_of(self.stage))
                for key in ("image", "tag", "cue")
            }

    def truth(self, grid: tuple[int, int]) -> np.ndarray:
        """True classes of those images on the grid, (N, h, w)."""
        paths = [self.stage.spec.mask_path(name) for name in self.data.ids[: self.count]]
        return np.stack([warp_mask(read_mask(path), grid) for path in paths])


def one_hot(label: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Bool (N, C, h, w) of class indices (N, h, w)."""
    return label[:, None] == np.arange(like.shape[1])[:, None, None]


def measure(seed: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Percent of cells with a seed; of foreground and of background seeds, percent right."""
    known = (truth != IGNORE)[:, None]
    right = seed & one_hot(truth, seed)
    given = seed & known
    parts = [(right[:, k].sum(), given[:, k].sum()) for k in (slice(1, None), slice(0, 1))]
    coverage = seed.any(1).mean()
    return 100 * coverage, *(100 * r / max(g, 1) for r, g in parts)


def figure(folder: Path, path: Path) -> None:
    """Rows of image | cues | seeds grown at the start, the middle and the end | truth."""
    files = sorted(folder.glob("*.npz"))
    chosen = [files[0], files[len(files) // 2], files[-1]]
    data = [dict(np.load(file)) for file in chosen]
    first = data[0]
    rows = []
    for k, image in enumerate(first["image"]):
        maps = [first["cue"][k], *(d["grown"][k] for d in data), first["truth"][k]]
        rows.append([image, *(marked(image, label) for label in maps)])
    steps = [f"grown, step {int(file.stem)}" for file in chosen]
    sheet(path, rows, ("image", "cues", *steps, "truth"), size=(150, 160))


def print_means(runs: tuple[Path, ...]) -> None:
    """Print the numbers of growth.json as Markdown, each the mean over the runs."""
    growth = [json.loads((run / "growth.json").read_text()) for run in runs]
    print("\n| seeds after step | cover % | foreground right % | background right % |")
    print("|---" * 4 + "|")
    for step in growth[0]:
        means = np.mean([[run[step][name] for name in NUMBERS] for run in growth], 0)
        print(f"| {step} | " + " | ".join(f"{value:.1f}" for value in means) + " |")


def main(words: list[str]) -> None:
    flags, rest = tyro.cli(Flags, args=words, description=__doc__, return_unknown_args=True)
    if flags.table:
        print_means(flags.table)
        return
    recipe, run = command("dsrg", rest)
    stage = start_stage("dsrg", recipe)
    train(stage, "dsrg", run, on_step=Watch(stage, flags, run.out / "growth"))
    numbers = {}
    for file in sorted((run.out / "growth").glob("*.npz")):
        values = np.load(file)["numbers"].round(2).tolist()
        numbers["cue"] = dict(zip(NUMBERS, values[3:]))
        numbers[int(file.stem)] = dict(zip(NUMBERS, values[:3]))
    write_text(run.out / "growth.json", json.dumps(numbers, indent=1))
    figure(run.out / "growth", run.out / "growth.png")
    print(f"{'step':>8}{'coverage %':>12}{'right, fg %':>13}{'right, bg %':>13}")
    for step, row in numbers.items():
        print(f"{step:>8}" + "".join(f"{v:>{w}.1f}" for v, w in zip(row.values(), (12, 13, 13))))


if __name__ == "__main__":
    with entry():
        main(sys.argv[1:])
