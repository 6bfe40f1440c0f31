"""Print the IoU of the classes of `scenes` by shape, beside the nearest shape of the other world.

    python -m script.study.shape_table OUT

OUT is the folder of a finished script/study/locate_ablation.sh on `scenes`.
"""

import json
import statistics
import sys
from pathlib import Path

import numpy as np

from base import UserError, entry
from datalist.scenes import WORLD

ROWS = {"CAM": "cam", "SEAM": "seam", "pass 1": "pseudo", "pass 2": "pass2", "pass 3": "pass3"}


def likeness() -> dict[str, float]:
    """IoU of each target shape with the nearest external shape, largest first."""
    v, u = np.mgrid[-1.25:1.25:200j, -1.25:1.25:200j]
    shapes = {
        world: {drawn.shape.__name__: drawn.shape(u, v) > 0 for drawn in WORLD[world]}
        for world in WORLD
    }
    nearest = {
        name: max((a & b).sum() / (a | b).sum() for b in shapes["external"].values())
        for name, a in shapes["target"].items()
    }
    return dict(sorted(nearest.items(), key=lambda item: -item[1]))


def main(out: Path) -> None:
    runs = sorted(out.glob("seed*"))
    if not runs:
        raise UserError(f"{out} has no folders seed*: run script/study/locate_ablation.sh first")
    nearest = likeness()
    head = " | ".join(f"{name} ({iou:.2f})" for name, iou in nearest.items())
    print(f"\n| IoU of classes by shape (IoU with the nearest external shape) | {head} |")
    print("|---" * (len(nearest) + 1) + "|")
    for title, folder in ROWS.items():
        scores = [json.loads((run / folder / "score.json").read_text())["iou"] for run in runs]
        means = [
            statistics.mean(
                score[c.name]
                for score in scores
                for c in WORLD["target"]
                if c.shape.__name__ == name
            )
            for name in nearest
        ]
        print(f"| {title} | " + " | ".join(f"{value:.1f}" for value in means) + " |")


if __name__ == "__main__":
    with entry():
        main(Path(sys.argv[1]))
