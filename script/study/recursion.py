"""Train RecurSeed and measure, once an epoch, its activation maps and their refinements on training
images.

    python -m script.study.recursion --out DIR [flags of train.py rsepm]

Trains what `train.py rsepm` trains, in the same layout, so test.py takes DIR/last.pt. The true
masks of the training images are read for the report alone. `--figure PICTURE --runs RUN RUN` trains
nothing, and draws the mean curves of finished runs.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch.utils.data import DataLoader, Subset

from base import UserError, entry
from base.file import write_text
from base.tensor import resize
from method.rsepm import RecurSeed, inside_box
from refine import best_labels
from script.study.shared import device_of, start_stage
from train import command
from utils import metric
from utils.loop import to_device, train
from utils.record import read_record

THRESHOLDS = np.arange(0.02, 0.9, 0.02)
TITLES = {
    "cam": "activation maps",
    "correlated": "after self-correlation",
    "refined": "after PAMR: what teaches",
    "decoder": "decoder",
}


@dataclass(frozen=True)
class Flags:
    """What is measured; all flags of `train.py rsepm` follow."""

    images: int = 80
    """Training images that the numbers are taken on."""
    figure: Path | None = None
    """Train nothing; picture to draw, of the mean curves of `runs`."""
    runs: tuple[Path, ...] = ()
    """Folders of finished runs of one length."""


class Watch:
    """Measures the maps of RecurSeed after each epoch and the last step, in FOLDER/EPOCH.json."""

    def __init__(self, stage: RecurSeed, images: int, folder: Path):
        self.stage, self.folder = stage, folder
        solver = stage.recipe.solver
        # Cut as in training, but never mirrored.
        data = stage.images(mask=stage.spec.mask_folder)
        data.mirror = False
        self.data = Subset(data, range(min(images, len(data))))
        self.last = solver.total_steps(len(data))
        self.epoch_steps = -(-len(data) // solver.batch)

    def __call__(self, step: int) -> None:
        if step and (step == self.last or step % self.epoch_steps == 0):
            self.measure(-(-step // self.epoch_steps))

    @torch.no_grad()
    def measure(self, epoch: int) -> None:
        """mIoU of the averaged network's maps, each at its best threshold; FOLDER/EPOCH.json."""
        stage = self.stage
        stage.network.eval()
        classes = stage.num_classes
        sums = {name: np.zeros((len(THRESHOLDS), classes, classes)) for name in TITLES}
        for batch in DataLoader(self.data, batch_size=20):
            batch = to_device(batch, device_of(stage))
            mask, tag = batch["mask"], batch["tag"]
            size = mask.shape[-2:]
            grid = [-(-side // stage.recipe.recursion.refine) for side in size]
            inside = inside_box(batch, grid)
            maps, logit, *features = stage.network(batch["image"])
            small = resize(batch["image"].float(), grid)
            refined = stage.recurse(small, tag, inside, maps, features)
            decoded = best_labels(torch.softmax(resize(logit, size), dim=1), tag)
            for k, truth in enumerate(mask.cpu().numpy().astype(np.uint8)):
                label = decoded[k].cpu().numpy().astype(np.uint8)
                sums["decoder"] += metric.confusion(truth, label, classes)
                for name, score in refined.items():
                    score = resize(score[k : k + 1], size)[0].cpu().numpy()
                    keys = np.arange(1, classes)
                    sums[name] += metric.sweep(truth, score, keys, THRESHOLDS, classes)
        stage.network.train()
        numbers = {}
        for name, matrices in sums.items():
            values = [100 * metric.scores(matrix).miou for matrix in matrices]
            best = int(np.argmax(values))
            numbers[name] = {"miou": round(values[best], 2)}
            if name != "decoder":
                numbers[name]["threshold"] = round(float(THRESHOLDS[best]), 2)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / f"{epoch:04d}.json", json.dumps(numbers))


def read_curves(run: Path) -> dict[str, list[float]]:
    """mIoU of each type of map over the epochs of a run, percent, and the epochs."""
    files = sorted((run / "watch").glob("*.json"))
    if not files:
        raise UserError(f"{run} is not a run of script.study.recursion (it has no watch/*.json)")
    rows = [json.loads(file.read_text()) for file in files]
    curves = {name: [row[name]["miou"] for row in rows] for name in TITLES}
    return {"epoch": [int(file.stem) for file in files], **curves}


def draw(picture: Path, runs: tuple[Path, ...]) -> None:
    """Draw the mean curves of several runs, and their range."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curves = [read_curves(run) for run in runs]
    recipe = read_record(runs[0] / "recipe.json")
    epochs = np.array(curves[0]["epoch"])
    figure, axes = pyplot.subplots(figsize=(6.4, 3.6))
    for name, title in TITLES.items():
        values = np.array([curve[name] for curve in curves])
        if name == "decoder":  # before that it has learned nothing
            values[:, epochs <= recipe["recursion_epoch"]] = np.nan
        (line,) = axes.plot(epochs, values.mean(0), label=title)
        low, high = values.min(0), values.max(0)
        axes.fill_between(epochs, low, high, color=line.get_color(), alpha=0.15, lw=0)
    for key, title in (("recursion_epoch", "recursion begins"), ("mix_epoch", "mixing begins")):
        axes.axvline(recipe[key], color="grey", lw=0.8, ls=":")
        low = axes.get_ylim()[0]
        axes.text(recipe[key], low, f" {title}", color="grey", fontsize=8, va="bottom")
    axes.set(xlabel="epoch", ylabel="mIoU on training images, %")
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(picture, dpi=150)


def main(words: list[str]) -> None:
    flags, rest = tyro.cli(Flags, args=words, description=__doc__, return_unknown_args=True)
    if flags.figure:
        draw(flags.figure, flags.runs)
        return
    recipe, run = command("rsepm", rest)
    stage = start_stage("rsepm", recipe)
    train(stage, "rsepm", run, on_step=Watch(stage, flags.images, run.out / "watch"))
    curves = read_curves(run.out)
    write_text(run.out / "watch.json", json.dumps({k: v[-1] for k, v in curves.items()}))
    print(f"{'epoch':>6}" + "".join(f"{name:>12}" for name in TITLES))
    for k, epoch in enumerate(curves["epoch"]):
        print(f"{epoch:>6}" + "".join(f"{curves[name][k]:>12.1f}" for name in TITLES))


if __name__ == "__main__":
    with entry():
        main(sys.argv[1:])
