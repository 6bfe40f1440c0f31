"""Score predictions against the true masks: class table, mIoU, score.json, HTML report.

python evaluate.py out/sec --dataset voc --split val
python evaluate.py out/sec out/dsrg --report     compare two
"""

import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from datalist import DataError
from datalist.spec import Spec, resolve
from datalist.tag import read_tags
from utils import measure, metric
from utils.output import write_text


@dataclass(frozen=True)
class Flags:
    folder: tyro.conf.Positional[tuple[Path, ...]]
    """Folder that test.py wrote into; a second one to compare with."""
    dataset: str = "scenes"
    """scenes, voc, coco, or a folder in VOC layout."""
    root: Path | None = None
    """Where voc, coco or scenes lies, if not in its default place."""
    split: str = "val"
    """List of images to evaluate."""
    kind: Literal["label", "score"] | None = None
    """What to read: label/*.png or score/*.npz; default: labels, if there are any."""
    threshold: tuple[float, float, float] = (0.1, 0.8, 0.05)
    """Constant background scores to try for scores without background: from, to, step."""
    restrict_to_tags: bool = False
    """Let only classes of the image's tags occur (background elsewhere)."""
    partial: bool = False
    """Permit missing and extra predictions; evaluate those in common."""
    detail: bool = False
    """Show false positives and negatives of each class, as shares of its union."""
    out: Path | None = None
    """Folder for score.json; default: the folder evaluated."""
    workers: Annotated[int, tyro.conf.arg(aliases=["-j"])] = os.cpu_count() or 1
    """Threads."""
    quiet: bool = False
    """No progress bar."""


def main(flags: Flags) -> None:
    if not 1 <= len(flags.folder) <= 2:
        raise DataError("Give one folder to evaluate, or two to compare.")
    spec = resolve(flags.dataset, flags.root)
    found = [evaluate(flags, spec, folder) for folder in flags.folder]
    if len(found) == 1:
        single(flags, spec, found[0])
    else:
        compare(flags, spec, found)


def evaluate(flags: Flags, spec: Spec, folder: Path) -> measure.Measured:
    predictions = measure.find(folder, flags.kind)
    ids = measure.choose_ids(spec, flags.split, predictions, flags.partial)
    if flags.restrict_to_tags:
        predictions = replace(predictions, tags=read_tags(spec, ids))
    tried = measure.thresholds(*flags.threshold)
    return measure.measure(spec, ids, predictions, tried, flags.workers, flags.quiet)


def single(flags: Flags, spec: Spec, found: measure.Measured) -> None:
    numbers = metric.as_percent(found.scores, spec.classes)
    columns = ["iou", "precision", "recall"]
    columns += ["false_positive", "false_negative"] if flags.detail else []
    heads = ["class", "IoU", "precision", "recall", "false pos", "false neg"]
    rows = [[name, *(numbers[c][name] for c in columns)] for name in spec.classes]
    print(metric.table(rows, heads[: 1 + len(columns)]))
    print()
    for name in ("pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"):
        print(f"{name.replace('_', ' '):24}{numbers[name]:6.2f}")
    if found.curve:
        print(f"{'background threshold':24}{found.threshold:6.2f}  (best of {len(found.curve)})")
    if numbers["absent"]:
        print("left out of the mean, absent from truth and prediction: ", end="")
        print(", ".join(numbers["absent"]))
    write_score(flags.out or flags.folder[0], flags, found, numbers)
    print(f"miou {numbers['miou']:.2f}")


def write_score(out: Path, flags: Flags, found: measure.Measured, numbers: dict) -> None:
    numbers = numbers | {
        "images": len(found.ids),
        "dataset": flags.dataset,
        "split": flags.split,
        "threshold": found.threshold,
        "curve": [
            {"threshold": t, "miou": round(100 * m, 2)}
            for t, m in zip(found.thresholds, found.curve)
        ],
        "restrict_to_tags": flags.restrict_to_tags,
    }
    write_text(out / "score.json", json.dumps(numbers, indent=1) + "\n")


def compare(flags: Flags, spec: Spec, found: list[measure.Measured]) -> None:
    first, second = (metric.as_percent(f.scores, spec.classes) for f in found)
    rows = [
        [name, first["iou"][name], second["iou"][name], _difference(first, second, name)]
        for name in spec.classes
    ]
    print(metric.table(rows, ["class", "A", "B", "B - A"]))
    print(f"\nA {flags.folder[0]}\nB {flags.folder[1]}")
    print(f"miou {first['miou']:.2f} {second['miou']:.2f}")


def _difference(first: dict, second: dict, name: str) -> float | None:
    pair = (first["iou"][name], second["iou"][name])
    return None if None in pair else round(pair[1] - pair[0], 2)


if __name__ == "__main__":
    try:
        main(tyro.cli(Flags, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)))
    except (DataError, OSError) as error:
        sys.exit(f"evaluate.py: {error}")
