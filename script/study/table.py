"""Print a Markdown table of one number over the seeds of an ablation.

    python -m script.study.table OUT "TITLE=FILE[#KEY]" ["TITLE=FILE[#KEY]" ...]

FILE is a JSON file in each folder OUT/seed*, or a folder with score.json; KEY (default miou) names
its number. Rows without any file are left out. `--shapes` adds the IoU of the classes of `scenes`
by shape, beside the nearest shape of the other world.
"""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from base import UserError, entry
from datalist.scenes import WORLD


@dataclass(frozen=True)
class Flags:
    out: tyro.conf.Positional[Path]
    """Folder of the ablation, with a folder seed* for each seed."""
    rows: tyro.conf.Positional[tuple[str, ...]]
    """TITLE=FILE[#KEY] of each row."""
    title: str = "mIoU"
    """What the numbers are."""
    shapes: bool = False
    """Also print a table of the shapes of `scenes`."""


def read_number(run: Path, where: str) -> float | None:
    """The number that FILE#KEY names in a run; None where there is no such file."""
    file, _, key = where.partition("#")
    path = run / file
    path = path / "score.json" if path.is_dir() else path
    return json.loads(path.read_text())[key or "miou"] if path.is_file() else None


def likeness() -> dict[str, float]:
    """IoU of each target shape with the nearest external shape, largest first."""
    v, u = np.mgrid[-1.25:1.25:200j, -1.25:1.25:200j]
    target, external = (
        {drawn.shape.__name__: drawn.shape(u, v) > 0 for drawn in WORLD[world]}
        for world in ("target", "external")
    )
    nearest = {
        name: max((a & b).sum() / (a | b).sum() for b in external.values())
        for name, a in target.items()
    }
    return dict(sorted(nearest.items(), key=lambda item: -item[1]))


def print_shapes(runs: list[Path], rows: list[list[str]]) -> None:
    """Print the mean IoU of each shape's classes on the training images."""
    nearest = likeness()
    head = " | ".join(f"{name} ({iou:.2f})" for name, iou in nearest.items())
    print(f"\n| IoU of classes by shape (IoU with the nearest external shape) | {head} |")
    print("|---" * (len(nearest) + 1) + "|")
    for title, folder in rows:
        iou = [json.loads((run / folder / "score.json").read_text())["iou"] for run in runs]
        classes = [[c.name for c in WORLD["target"] if c.shape.__name__ == n] for n in nearest]
        means = [statistics.mean(values[c] for values in iou for c in names) for names in classes]
        print(f"| {title} | " + " | ".join(f"{value:.1f}" for value in means) + " |")


def main(flags: Flags) -> None:
    runs = sorted(flags.out.glob("seed*"))
    if not runs:
        raise UserError(f"{flags.out} has no folders seed*: run the ablation first")
    print(f"| {flags.title}, {len(runs)} seeds | mean | each |\n|---|---|---|")
    rows = [row.rpartition("=")[::2] for row in flags.rows]
    for title, where in rows:
        numbers = [n for run in runs if (n := read_number(run, where)) is not None]
        if numbers:
            each = ", ".join(f"{number:.1f}" for number in numbers)
            print(f"| {title} | {statistics.mean(numbers):.1f} | {each} |")
    if flags.shapes:
        print_shapes(runs, [row for row in rows if (runs[0] / row[1]).is_dir()])


if __name__ == "__main__":
    with entry():
        main(tyro.cli(Flags, description=__doc__))
