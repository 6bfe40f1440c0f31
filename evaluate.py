#!/usr/bin/env python
"""Score predictions against the true masks: class table, mIoU, score.json, HTML report.

One folder is scored. Two are compared: class by class and, in the report, by the images on which
they disagree most.
"""

# First, so that Ctrl-C during the other imports ends in one line.
from base import UserError, entry

# isort: split
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import fill
from typing import Annotated, Literal

import tyro

from datalist.spec import Spec, resolve
from datalist.tag import read_tags
from utils import measure, metric
from utils.output import write_text
from utils.record import command_line
from utils.report import page as report
from utils.report import review
from utils.report.frame import find_training, run_name


@dataclass(frozen=True)
class Flags:
    folder: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="DIR [DIR]", help_behavior_hint=""),
    ]
    """Folder that test.py wrote into; a second one to compare with."""
    dataset: str = "scenes"
    """scenes, voc, coco, or a folder in VOC layout."""
    root: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Where voc, coco or scenes lies, if not in its default place."""
    split: str = "val"
    """List of images to evaluate."""
    kind: Annotated[
        Literal["label", "score"] | None,
        tyro.conf.arg(metavar="{label,score}", help_behavior_hint=""),
    ] = None
    """What to read: label/*.png or score/*.npz; default: labels, if there are any."""
    threshold: tuple[float, float, float] = (0.1, 0.8, 0.05)
    """Constant background scores to try for scores without background: from, to, step."""
    sweep: bool = False
    """Try constant background scores in place of a stored background, as for seeds."""
    restrict_to_tags: bool = False
    """Let only classes of the image's tags occur (background elsewhere)."""
    partial: bool = False
    """Permit missing and extra predictions; evaluate those in common."""
    skip_without_masks: bool = False
    """Score the images that have a true mask; without any, end without error."""
    detail: bool = False
    """Show false positives and negatives of each class, as shares of its union."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """Folder for score.json (of two: comparison.json); default: the (second) folder given."""
    workers: Annotated[int, tyro.conf.arg(aliases=["-j"])] = os.cpu_count() or 1
    """Threads."""
    report: bool = False
    """Write report.html beside score.json: one file, opens without a network. Without true masks it
    shows the predictions against the tags, which can be corrected there."""
    run: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """Folder with log.jsonl and recipe.json for the report; default: found beside."""
    quiet: bool = False
    """No progress bar."""


def main(flags: Flags) -> None:
    if not 1 <= len(flags.folder) <= 2:
        raise UserError("Give one folder to evaluate, or two to compare.")
    if flags.run and len(flags.folder) == 2:
        raise UserError("--run goes with one folder, not with a comparison of two.")
    if flags.run and find_training(flags.run) is None:
        raise UserError(f"--run {flags.run} holds neither log.jsonl nor recipe.json.")
    tried = measure.thresholds(*flags.threshold)
    spec = resolve(flags.dataset, flags.root)
    predictions = [measure.find(folder, flags.kind) for folder in flags.folder]
    count, total = measure.count_without_mask(spec, flags.split), len(spec.ids(flags.split))
    skip = flags.skip_without_masks
    names = " and ".join(map(str, flags.folder))
    lost = f"{count} of {total} images of {spec.name} {flags.split} have no true mask"
    if count == total and (skip or flags.report):
        print(f"{names}: not scored, as {lost}")
        if flags.report:
            show_unscored(flags, spec, predictions[-1])
        return
    if count and skip:
        print(f"{names}: {lost}; the score is that of the others")
    lists = [measure.choose_ids(spec, flags.split, p, flags.partial, skip) for p in predictions]
    ids = [i for i in lists[0] if i in set(lists[-1])]
    if not ids:
        raise UserError("The two folders have no image in common; evaluate each by itself.")
    if flags.sweep:
        predictions = [replace(p, background=False) for p in predictions]
    if flags.restrict_to_tags:
        predictions = [replace(p, tags=read_tags(spec, ids)) for p in predictions]
    runs = []
    for prediction in predictions:
        measured = measure.measure(spec, ids, prediction, tried, flags.workers, flags.quiet)
        name = run_name(prediction.folder, flags.split)
        training = find_training(flags.run or prediction.folder)
        runs.append(report.Run(name, prediction, measured, training))
    numbers = [single, compare][len(runs) - 1](flags, spec, runs)
    stem = ["score", "comparison"][len(runs) - 1]
    out = flags.out or flags.folder[-1]
    write_text(out / f"{stem}.json", json.dumps(numbers, indent=1) + "\n")
    if flags.report:
        page = out / ("report.html" if stem == "score" else "comparison.html")
        command = command_line()
        size = report.write(page, spec, flags.split, runs, command, flags.workers, flags.quiet)
        print(f"{page} ({size / 1e6:.1f} MB)")
    print("miou", *(f"{100 * run.measured.scores.miou:.2f}" for run in runs))


def show_unscored(flags: Flags, spec: Spec, predictions: measure.Predictions) -> None:
    """Write report.html of predictions without true masks; maps without background show nothing."""
    if predictions.kind == "score" and (flags.sweep or not predictions.background):
        return
    ids = measure.predicted_ids(spec, flags.split, predictions, flags.partial)
    if flags.restrict_to_tags:
        predictions = replace(predictions, tags=read_tags(spec, ids))
    page = (flags.out or predictions.folder) / "report.html"
    training = find_training(flags.run or predictions.folder)
    command, settings = command_line(), (training, flags.workers, flags.quiet)
    size = review.write(page, spec, flags.split, predictions, ids, command, *settings)
    print(f"{page} ({size / 1e6:.1f} MB): predictions against the tags")


def single(flags: Flags, spec: Spec, runs: list[report.Run]) -> dict:
    """Print the table of one folder; return what score.json holds."""
    measured = runs[0].measured
    numbers = metric.as_percent(measured.scores, spec.classes)
    columns = ["iou", "precision", "recall"]
    columns += ["false_positive", "false_negative"] if flags.detail else []
    heads = ["class", "IoU", "precision", "recall", "false pos", "false neg"]
    rows = [[name, *(numbers[c][name] for c in columns)] for name in spec.classes]
    print(f"{len(measured.ids)} {runs[0].predictions.kind}s of {spec.name} {flags.split}\n")
    print(metric.table(rows, heads[: 1 + len(columns)]))
    print()
    for name in ("pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"):
        print(f"{name.replace('_', ' '):24}{numbers[name]:6.2f}")
    if measured.curve:
        print(
            f"{'background threshold':24}{measured.threshold:6.2f}  (best of {len(measured.curve)})"
        )
    if numbers["absent"]:
        names = ", ".join(numbers["absent"])
        print(fill(f"left out of the mean, absent from truth and prediction: {names}", 80))
    return numbers | {
        "images": len(measured.ids),
        "dataset": flags.dataset,
        "split": flags.split,
        "threshold": measured.threshold,
        "curve": [
            {"threshold": t, "miou": round(100 * m, 2)}
            for t, m in zip(measured.thresholds, measured.curve)
        ],
        "restrict_to_tags": flags.restrict_to_tags,
    }


def compare(flags: Flags, spec: Spec, runs: list[report.Run]) -> dict:
    """Print the table of two folders; return what comparison.json holds."""
    pair = [metric.as_percent(run.measured.scores, spec.classes) for run in runs]
    gain = {name: _difference(*(p["iou"][name] for p in pair)) for name in spec.classes}
    rows = [[name, *(p["iou"][name] for p in pair), gain[name]] for name in spec.classes]
    print(metric.table(rows, ["class", "A", "B", "B - A"]))
    print(f"\nA {flags.folder[0]}\nB {flags.folder[1]}")
    return {
        "a": {"folder": str(flags.folder[0]), **pair[0]},
        "b": {"folder": str(flags.folder[1]), **pair[1]},
        "difference": {"miou": _difference(pair[0]["miou"], pair[1]["miou"]), "iou": gain},
    }


def _difference(first: float | None, second: float | None) -> float | None:
    return None if None in (first, second) else round(second - first, 2)


if __name__ == "__main__":
    with entry("evaluate.py"):
        main(tyro.cli(Flags, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)))
