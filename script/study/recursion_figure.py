"""Draw the mean curves of several runs of script.study.recursion.

python -m script.study.recursion_figure PICTURE RUN [RUN ...]
"""

from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import tyro

matplotlib.use("Agg")
from matplotlib import pyplot

from base import entry
from script.study.recursion import TITLES, read_curves
from utils.record import read_record


@dataclass(frozen=True)
class Flags:
    picture: tyro.conf.Positional[Path]
    """Picture to write."""
    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of finished runs of one length."""


def main(flags: Flags) -> None:
    curves = [read_curves(run) for run in flags.runs]
    recipe = read_record(flags.runs[0] / "recipe.json")
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
    figure.savefig(flags.picture, dpi=150)


if __name__ == "__main__":
    with entry():
        main(tyro.cli(Flags, description=__doc__))
