"""One HTML file that shows a result: numbers, confusion, curves, and the images behind them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datalist.spec import Spec
from utils import metric
from utils.measure import Measured, Predictions
from utils.progress import progress
from utils.report import chart, gallery
from utils.report.frame import class_colours, cover_table, records, write_page


@dataclass(frozen=True)
class Run:
    """One evaluated folder. training: folder with log.jsonl and recipe.json, where there is one."""

    name: str
    predictions: Predictions
    measured: Measured
    training: Path | None = None


def write(
    path: Path,
    spec: Spec,
    split: str,
    runs: Sequence[Run],
    command: str,
    workers: int = 2,
    quiet: bool = False,
) -> int:
    """Write the report of one run, or of two to be compared; returns its size in bytes.

    Raises:
        UserError: an image or prediction cannot be read.
    """
    classes, colours = spec.classes, class_colours(spec.num_classes)
    names = [run.name for run in runs]
    summaries = [_summary(run, spec) for run in runs]
    first, last = summaries[0]["recipe"], summaries[-1]["recipe"]
    changed = []  # fields of the recipes of two runs that one has not, or otherwise
    if first and last:
        changed = [k for k in first.keys() | last.keys() if first.get(k) != last.get(k)]
    items = _gallery(spec, runs, workers, quiet)
    return write_page(
        path,
        "report",
        {"classes": list(classes), "colours": colours, "runs": names, "items": items},
        title=" against ".join(names),
        dataset=spec.name,
        split=split,
        runs=summaries,
        changed=changed,
        rows=_rows(spec, runs, colours),
        confusions=[chart.confusion(run.measured.matrix, classes) for run in runs],
        mistakes=[_mistakes(run.measured.matrix, spec, colours) for run in runs],
        figures=[_figures(run) for run in runs],
        cover=cover_table(runs[-1].predictions.folder, runs[-1].measured.ids),
        command=command,
        shown=len(items),
        total=len(runs[0].measured.ids),
    )


def _summary(run: Run, spec: Spec) -> dict:
    numbers = metric.as_percent(run.measured.scores, spec.classes)
    return numbers | {
        "name": run.name,
        "folder": str(run.predictions.folder),
        "kind": run.predictions.kind,
        "images": len(run.measured.ids),
        "threshold": run.measured.threshold,
        "restricted": run.predictions.tags is not None,
        "training": str(run.training) if run.training else None,
        **records(run.predictions, run.training),
    }


def _rows(spec: Spec, runs: Sequence[Run], colours: Sequence[str]) -> list[dict]:
    """Classes sorted by IoU (of two runs: by difference), classes without one last."""
    scores = [metric.as_percent(run.measured.scores, spec.classes) for run in runs]
    rows = []
    for index, name in enumerate(spec.classes):
        iou = [row["iou"][name] for row in scores]
        key = iou[0]
        if len(iou) == 2:
            key = None if None in iou else iou[1] - iou[0]
        row = {"index": index, "name": name, "colour": colours[index], "iou": iou, "key": key}
        others = ("precision", "recall", "false_positive", "false_negative")
        rows.append(row | {other: scores[0][other][name] for other in others})
    return sorted(rows, key=lambda r: (r["key"] is None, -(r["key"] or 0)))


def _mistakes(matrix: np.ndarray, spec: Spec, colours: Sequence[str], most: int = 7) -> list[dict]:
    """The pairs of classes that cost most pixels, as shares of all wrong pixels in percent."""
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(n), len(wrong)) for n in order if wrong.flat[n]]
    return [
        {
            "truth": spec.classes[row],
            "prediction": spec.classes[column],
            "colours": (colours[row], colours[column]),
            "share": 100 * float(wrong[row, column] / wrong.sum()),
        }
        for row, column in pairs
    ]


def _gallery(spec: Spec, runs: Sequence[Run], workers: int, quiet: bool) -> list[dict]:
    ids = runs[0].measured.ids
    miou, iou = (
        np.stack([getattr(run.measured, name) for run in runs])
        for name in ("image_miou", "image_iou")
    )
    disagree = None
    if len(runs) == 2:
        pairs = [(run.predictions, run.measured) for run in runs]
        disagree = gallery.disagreement(spec, ids, pairs, workers, quiet)
    items, spent = [], 0
    chosen = gallery.choose(iou[-1], miou[-1], disagree)
    with progress(len(chosen), "report", " images", quiet) as bar:
        for row in chosen:
            labels = [r.predictions.label(ids[row], r.measured.threshold or 0) for r in runs]
            item = gallery.pictures(spec, ids[row], labels)
            spent += len(json.dumps(item))
            if spent > gallery.BUDGET and items:
                break
            known = np.flatnonzero(~np.isnan(iou[:, row]).all(0)).tolist()
            item["id"] = ids[row]
            item["miou"] = [_percent(v) for v in miou[:, row]]
            item["iou"] = {str(c): [_percent(v) for v in iou[:, row, c]] for c in known}
            item["differ"] = None if disagree is None else _percent(disagree[row])
            items.append(item)
            bar.update()
    return items


def _percent(value: float) -> float | None:
    return None if np.isnan(value) else round(100 * float(value), 1)


def _figures(run: Run) -> list[dict]:
    """Threshold sweep and training curves of a run, those that there are."""
    measured, figures = run.measured, []
    if measured.curve:
        svg = chart.lines(
            measured.thresholds,
            {"mIoU %": [100 * v for v in measured.curve]},
            "mIoU over the constant background score",
            x_label="threshold",
            mark=measured.threshold,
            floor_at_zero=False,
        )
        title, note = "mIoU over the background threshold", f"best at {measured.threshold:.2f}"
        figures.append({"title": title, "note": note, "names": [], "svg": svg})
    log = read_log(run.training / "log.jsonl") if run.training else {}
    if len(log.get("step", ())) < 2:
        return figures
    steps = log.pop("step")
    rate = {"lr": log.pop("lr")} if "lr" in log else {}
    losses = {"loss": log.pop("loss")} if "loss" in log else {}
    for title, series in (("Losses", losses | log), ("Learning rate", rate)):
        if series:
            x, y = chart.thin(steps, series)
            note = f"{int(steps[-1]):,} steps".replace(",", " ")
            svg = chart.lines(x, y, title)
            figures.append({"title": title, "note": note, "names": list(series), "svg": svg})
    return figures


def read_log(path: Path) -> dict[str, np.ndarray]:
    """Read the numbers of a log.jsonl as columns, (n,), NaN where a line lacks one.

    A last line cut off by a kill, and steps taken again after a resume, are dropped.
    """
    rows: dict[float, dict[str, float]] = {}
    if not path.is_file():
        return {}
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text, parse_int=float)  # which knows no limit
        except (ValueError, RecursionError):
            continue
        numbers = line.items() if isinstance(line, dict) else ()
        row = {name: value for name, value in numbers if isinstance(value, float)}
        if "step" in row:
            rows[row["step"]] = row
    names = dict.fromkeys(name for step in sorted(rows) for name in rows[step])
    return {name: np.array([rows[s].get(name, np.nan) for s in sorted(rows)]) for name in names}
