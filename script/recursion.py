"""Train RecurSeed and watch it: how good the activation maps and their refinements are over the
epochs, on training images, and a figure of the curves.

    python script/recursion.py --out DIR [--dataset D] [--recipe small] [--mix edge]
    python script/recursion.py --figure PICTURE DIR [DIR ...]

Trains what `train.py rsepm` trains, in the same layout, so test.py takes DIR/last.pt. The true
masks of the training images are read to report, never to learn. The second form draws the mean
curves of several runs.
"""

import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from base import UserError, entry
from base.tensor import resize
from datalist.spec import resolve
from method.rsepm import RecurSeed, RSEPMRecipe, inside_box
from refine import best_labels
from utils import metric
from utils.loop import Run, to_device, train
from utils.output import write_text

THRESHOLDS = np.arange(0.02, 0.9, 0.02)
TITLES = {
    "cam": "activation maps",
    "correlated": "after self-correlation",
    "refined": "after PAMR: what teaches",
    "decoder": "decoder",
}


@dataclass(frozen=True)
class Flags:
    recipe: RSEPMRecipe
    """The recipe, from which single fields may be changed."""
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """With --figure: folders of finished runs."""
    figure: Path | None = None
    """Draw the mean curves of these runs into a picture, and train nothing."""
    out: Path = Path("out/recursion")
    """Folder of the run."""
    images: int = 80
    """Training images that the numbers are taken on."""
    quiet: bool = field(default=False)
    """No progress bar."""


class Watched(RecurSeed):
    """The stage, with a look at its maps once an epoch. What is learned stays the same."""

    flags: Flags

    def losses(self, batch: dict, step: int) -> dict[str, torch.Tensor]:
        every = -(-self.length // self.recipe.batch)
        if step and step % every == 0:
            self.watch(step // every)
        return super().losses(batch, step)

    def after_step(self, step: int) -> None:
        super().after_step(step)
        if step + 1 == self.recipe.steps:
            self.watch(-(-self.recipe.steps * self.recipe.batch // self.length))

    @torch.no_grad()
    def watch(self, epoch: int) -> None:
        """Measure the maps of the averaged network; best threshold of each. watch/EPOCH.json."""
        self.network.eval()
        classes = self.num_classes
        sums = {name: np.zeros((len(THRESHOLDS), classes, classes)) for name in TITLES}
        for batch in self.samples():
            mask, tag = batch["mask"], batch["tag"]
            size = mask.shape[-2:]
            grid = [-(-side // self.recipe.refine) for side in size]
            inside = inside_box(batch, grid)
            maps, logit, *features = self.forward(batch["image"])
            small = resize(batch["image"].float(), grid)
            found = self.recurse(small, tag, inside, maps, features)
            decoded = best_labels(torch.softmax(resize(logit, size), dim=1), tag)
            for k, truth in enumerate(mask.cpu().numpy().astype(np.uint8)):
                label = decoded[k].cpu().numpy().astype(np.uint8)
                sums["decoder"] += metric.confusion(truth, label, classes)
                for name, score in found.items():
                    score = resize(score[k : k + 1], size)[0].cpu().numpy()
                    keys = np.arange(1, classes)
                    sums[name] += metric.sweep(truth, score, keys, THRESHOLDS, classes)
        self.network.train()
        numbers = {}
        for name, matrices in sums.items():
            values = [100 * metric.scores(matrix).miou for matrix in matrices]
            best = int(np.argmax(values))
            numbers[name] = {"miou": round(values[best], 2)}
            if name != "decoder":
                numbers[name]["threshold"] = round(float(THRESHOLDS[best]), 2)
        folder = self.flags.out / "watch"
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"{epoch:04d}.json", json.dumps(numbers))

    def samples(self):
        """The first images with their true masks, cut as in training but never mirrored."""
        data = self.images(mask=self.spec.mask_folder)
        few = torch.utils.data.Subset(data, range(min(self.flags.images, len(data))))
        for batch in DataLoader(few, batch_size=20):
            yield to_device(batch, self.device)


def read(run: Path) -> dict[str, list[float]]:
    """mIoU of each kind of map over the epochs of a run, percent, and the epochs."""
    files = sorted((run / "watch").glob("*.json"))
    if not files:
        raise UserError(f"{run} is no finished run of this script (it has no watch/*.json)")
    rows = [json.loads(file.read_text()) for file in files]
    curves = {name: [row[name]["miou"] for row in rows] for name in TITLES}
    return {"epoch": [int(file.stem) for file in files], **curves}


def draw(runs: list[Path], path: Path) -> None:
    """Mean curves of runs of one length, with the spread between them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = [read(run) for run in runs]
    recipe = json.loads((runs[0] / "recipe.json").read_text())
    figure, axes = pyplot.subplots(figsize=(6.4, 3.6))
    for name, title in TITLES.items():
        values = np.array([run[name] for run in found])
        if name == "decoder":  # before that it has learned nothing
            values[:, np.array(found[0]["epoch"]) <= recipe["recursion_epoch"]] = np.nan
        (line,) = axes.plot(found[0]["epoch"], values.mean(0), label=title)
        axes.fill_between(
            found[0]["epoch"],
            values.min(0),
            values.max(0),
            color=line.get_color(),
            alpha=0.15,
            lw=0,
        )
    for epoch, title in (
        (recipe["recursion_epoch"], "recursion begins"),
        (recipe["mix_epoch"], "mixing begins"),
    ):
        axes.axvline(epoch, color="grey", lw=0.8, ls=":")
        axes.text(epoch, axes.get_ylim()[0], f" {title}", color="grey", fontsize=8, va="bottom")
    axes.set(xlabel="epoch", ylabel="mIoU on training images, %")
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main(flags: Flags) -> None:
    if flags.figure:
        draw(list(flags.runs), flags.figure)
        return
    torch.manual_seed(flags.recipe.seed)
    recipe = flags.recipe
    stage = Watched(recipe, resolve(recipe.dataset, recipe.root or None))
    stage.flags = flags
    print(stage.load())
    train(stage, "rsepm", Run(flags.out, quiet=flags.quiet))
    curves = read(flags.out)
    print(f"{'epoch':>6}" + "".join(f"{name:>12}" for name in TITLES))
    for k, epoch in enumerate(curves["epoch"]):
        print(f"{epoch:>6}" + "".join(f"{curves[name][k]:>12.1f}" for name in TITLES))


def flags_from(arguments: list[str]) -> Flags:
    """Parse the flags; --recipe NAME chooses what the recipe's fields begin with."""
    name = "small"
    if "--recipe" in arguments[:-1]:
        place = arguments.index("--recipe")
        name = arguments[place + 1]
        arguments = arguments[:place] + arguments[place + 2 :]
    if name not in RecurSeed.recipes:
        raise UserError(f"--recipe {name}: there are {', '.join(RecurSeed.recipes)}")
    default = Flags(recipe=replace(RecurSeed.recipes[name]))
    return tyro.cli(
        tyro.conf.OmitArgPrefixes[Flags], args=arguments, default=default, description=__doc__
    )


if __name__ == "__main__":
    with entry("recursion.py"):
        main(flags_from(sys.argv[1:]))
