"""Train DSRG's first step and watch its seeds: how much of the grid they cover, how often they are
right, and a figure of them at the start, the middle and the end.

    python script/growth.py --cue CUES --out DIR [--dataset D] [--recipe small] [--seed 0]

Trains what `train.py dsrg` trains, in the same layout, so test.py takes DIR/last.pt. The true
masks of the training images are read to report, never to learn.
"""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from base import IGNORE, UserError, entry
from datalist.augment import warp_mask
from datalist.cue import CueFile
from datalist.dataset import Images
from datalist.image import read_mask
from datalist.spec import resolve
from loss import floor_softmax
from method.dsrg import DSRG, class_map
from method.sec import grid_size
from utils.figure import marked, sheet
from utils.loop import Run, train
from utils.output import write_text


@dataclass(frozen=True)
class Flags:
    cue: Path
    """Cue file, as train.py takes it."""
    out: Path
    """Folder of the run."""
    dataset: str = "scenes"
    """voc, coco, scenes or a folder."""
    root: str = ""
    """Where voc, coco or scenes lies."""
    recipe: str = "small"
    """Named recipe of the stage."""
    seed: int = 0
    """Seed of the run."""
    images: int = 200
    """Training images that the numbers are taken on."""
    marks: int = 8
    """Times that the seeds are looked at, besides before the first step."""
    rows: int = 4
    """Images in the figure."""
    quiet: bool = False
    """No progress bar."""


class Watched(DSRG):
    """The stage, with a look at its seeds now and then. What is learned stays the same."""

    flags: Flags

    def losses(self, batch: dict, step: int) -> dict[str, torch.Tensor]:
        if step % max(1, self.recipe.steps // self.flags.marks) == 0:
            self.watch(step)
        return super().losses(batch, step)

    def after_step(self, step: int) -> None:
        if step + 1 == self.recipe.steps:
            self.watch(step + 1)

    def watch(self, step: int) -> None:
        """Grow the seeds of the first images and keep numbers and maps, growth/STEP.npz."""
        mode = self.network.training
        self.network.eval()
        cue, grown, image = [], [], []
        for batch in self.batches():
            with torch.no_grad():
                score = floor_softmax(self.forward(batch["image"]), self.recipe.floor)
                _, seed = self.targets(batch, score)
            cue.append(class_map(batch["cue"]).cpu().numpy())
            grown.append(seed.cpu().numpy())
            image.append(batch["image"].cpu().numpy())
        self.network.train(mode)
        cue, grown, image = map(np.concatenate, (cue, grown, image))
        truth = self.truth(grown.shape[2:])
        rows = slice(self.flags.rows)
        folder = self.flags.out / "growth"
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            folder / f"{step:06d}.npz",
            image=image[rows].transpose(0, 2, 3, 1),
            truth=truth[rows],
            cue=cue[rows],
            grown=class_map(torch.from_numpy(grown[rows])).numpy(),
            numbers=np.array([*measure(grown, truth), *measure(one_hot(cue, grown), truth)]),
        )

    def batches(self):
        """The first images with their cues, as they are in training but never mirrored."""
        recipe, size = self.recipe, 20
        data = Images(
            self.spec,
            recipe.split,
            size=recipe.size,
            cue=CueFile.open(recipe.cue),
            grid=grid_size(recipe.size, recipe.pool),
        )
        count = min(self.flags.images, len(data))
        self.ids = data.ids[:count]
        for first in range(0, count, size):
            samples = [data[k] for k in range(first, min(first + size, count))]
            yield {
                key: torch.stack([s[key] for s in samples]).to(self.device)
                for key in ("image", "tag", "cue")
            }

    def truth(self, grid: tuple[int, int]) -> np.ndarray:
        """True classes of those images on the grid, (N, h, w)."""
        return np.stack(
            [warp_mask(read_mask(self.spec.mask_path(name)), grid) for name in self.ids]
        )


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


def main(flags: Flags) -> None:
    if flags.recipe not in DSRG.recipes:
        raise UserError(f"--recipe {flags.recipe}: there are {', '.join(DSRG.recipes)}")
    recipe = replace(
        DSRG.recipes[flags.recipe],
        dataset=flags.dataset,
        root=flags.root,
        seed=flags.seed,
        cue=str(flags.cue),
    )
    torch.manual_seed(recipe.seed)
    stage = Watched(recipe, resolve(recipe.dataset, recipe.root or None))
    stage.flags = flags
    print(stage.load())
    train(stage, "dsrg", Run(flags.out, quiet=flags.quiet))
    names = ("coverage", "foreground_precision", "background_precision")
    numbers = {}
    for file in sorted((flags.out / "growth").glob("*.npz")):
        values = np.load(file)["numbers"].round(2).tolist()
        numbers["cue"] = dict(zip(names, values[3:]))
        numbers[int(file.stem)] = dict(zip(names, values[:3]))
    write_text(flags.out / "growth.json", json.dumps(numbers, indent=1))
    figure(flags.out / "growth", flags.out / "growth.png")
    print(f"{'step':>8}{'coverage %':>12}{'right, fg %':>13}{'right, bg %':>13}")
    for step, row in numbers.items():
        print(f"{step:>8}" + "".join(f"{v:>{w}.1f}" for v, w in zip(row.values(), (12, 13, 13))))


if __name__ == "__main__":
    with entry("growth.py"):
        main(tyro.cli(Flags, description=__doc__))
