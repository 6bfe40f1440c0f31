"""The work of evaluate.py: tables, score.json, report."""

import json
from dataclasses import replace
from pathlib import Path
from textwrap import fill

from base import UserError
from base.file import write_text
from datalist.spec import Spec, resolve
from datalist.tag import read_tags
from utils import measure, metric
from utils.flags import Evaluate
from utils.record import command_line, read_origin
from utils.report import page as report
from utils.report import review
from utils.report.frame import find_training, run_name


def evaluate(flags: Evaluate) -> None:
    """Score one folder, or compare two; arguments as of the flags."""
    if not 1 <= len(flags.folder) <= 2:
        raise UserError("Give one folder to evaluate, or two to compare")
    if flags.run and len(flags.folder) == 2:
        raise UserError("--run goes with one folder, not with a comparison of two")
    if flags.run and find_training(flags.run) is None:
        raise UserError(f"--run {flags.run} holds neither log.jsonl nor recipe.json")
    tried = measure.thresholds(*flags.threshold)
    predictions = [measure.find(folder, flags.kind) for folder in flags.folder]
    flags = with_origin(flags)
    spec = resolve(flags.dataset, flags.root)
    for folder in flags.folder:
        check_classes(folder, spec)
    masks = [spec.mask_path(image_id).is_file() for image_id in spec.ids(flags.split)]
    count, total = masks.count(False), len(masks)
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
        raise UserError("The two folders have no image in common; evaluate each by itself")
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
    if len(runs) == 1:
        numbers, file, page = single(flags, spec, runs[0]), "score.json", "report.html"
    else:
        numbers, file, page = compare(flags, spec, runs), "comparison.json", "comparison.html"
    out = flags.out or flags.folder[-1]
    write_text(out / file, json.dumps(numbers, indent=1) + "\n")
    if flags.report:
        settings = (command_line(), flags.workers, flags.quiet)
        size = report.write(out / page, spec, flags.split, runs, *settings)
        print(f"{out / page} ({size / 1e6:.1f} MB)")
    print("miou", *(f"{100 * run.measured.scores.miou:.2f}" for run in runs))


def with_origin(flags: Evaluate) -> Evaluate:
    """The flags with data set, root and split that the predictions were made of."""
    origin = next(filter(None, map(read_origin, flags.folder)), {})
    dataset, root = flags.dataset or origin.get("dataset"), flags.root
    if not dataset:
        unknown = f"{flags.folder[0]} does not say which data set its predictions are of"
        raise UserError(f"{unknown}: give --dataset")
    if root is None and origin.get("root") and dataset == origin["dataset"]:
        root = Path(origin["root"])
    split = flags.split or origin.get("split") or "val"
    return replace(flags, dataset=dataset, root=root, split=split)


def check_classes(folder: Path, spec: Spec) -> None:
    """Raise UserError where predictions are of other classes, or have another order of them."""
    classes = read_origin(folder).get("classes")
    if classes and classes != list(spec.classes):
        raise UserError(
            f"{folder} holds predictions of the classes {', '.join(classes)}, but {spec.name} has "
            f"{', '.join(spec.classes)}: give the data set that they were made for"
        )


def show_unscored(flags: Evaluate, spec: Spec, predictions: measure.Predictions) -> None:
    """Write report.html of predictions without true masks; maps without background show nothing."""
    if predictions.kind == "score" and (flags.sweep or not predictions.background):
        return
    ids = measure.predicted_ids(spec, flags.split, predictions, flags.partial)
    if flags.restrict_to_tags:
        predictions = replace(predictions, tags=read_tags(spec, ids))
    page = (flags.out or predictions.folder) / "report.html"
    training = find_training(flags.run or predictions.folder)
    command = command_line()
    settings = (training, flags.workers, flags.quiet, flags.again)
    size = review.write(page, spec, flags.split, predictions, ids, command, *settings)
    print(f"{page} ({size / 1e6:.1f} MB): predictions against the tags")


def single(flags: Evaluate, spec: Spec, run: report.Run) -> dict:
    """Print the table of one folder; return what score.json holds."""
    measured = run.measured
    numbers = metric.as_percent(measured.scores, spec.classes)
    columns = ["iou", "precision", "recall"]
    columns += ["false_positive", "false_negative"] if flags.detail else []
    heads = ["class", "IoU", "precision", "recall", "false pos", "false neg"]
    rows = [[name, *(numbers[c][name] for c in columns)] for name in spec.classes]
    print(f"{len(measured.ids)} {run.predictions.kind}s of {spec.name} {flags.split}\n")
    print(metric.table(rows, heads[: 1 + len(columns)]))
    print()
    for name in ("pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"):
        print(f"{name.replace('_', ' '):24}{numbers[name]:6.2f}")
    if measured.curve:
        best = f"{measured.threshold:6.2f}  (best of {len(measured.curve)})"
        print(f"{'background threshold':24}{best}")
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


def compare(flags: Evaluate, spec: Spec, runs: list[report.Run]) -> dict:
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
    return None if first is None or second is None else round(second - first, 2)
