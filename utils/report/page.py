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

    Args:
        path: the HTML file; it needs no other file and no network.
        command: the evaluation's, as typed; those of training and test are in their folders.

    Raises:
        UserError: an image or prediction cannot be read.
    """
    classes, colours = spec.classes, class_colours(spec.num_classes)
    summaries = [_summary(run, spec) for run in runs]
    first, last = summaries[0]["recipe"], summaries[-1]["recipe"]
    # Fields of the recipes of two runs that one has not, or otherwise.
    changed = [
        k for k in first.keys() | last.keys() if first and last and first.get(k) != last.get(k)
    ]
    summaries = [summary | {"changed": changed} for summary in summaries]
    items, count = _gallery(spec, runs, workers, quiet)
    return write_page(
        path,
        "report",
        {
            "classes": list(classes),
            "colours": colours,
            "runs": [run.name for run in runs],
            "items": items,
        },
        title=" against ".join(run.name for run in runs),
        dataset=spec.name,
        split=split,
        runs=summaries,
        rows=_rows(spec, runs, colours),
        confusions=[chart.confusion(run.measured.matrix, classes) for run in runs],
        mistakes=[_mistakes(run.measured.matrix, spec, colours) for run in runs],
        figures=[_figures(run) for run in runs],
        cover=cover_table(runs[-1].predictions.folder, runs[-1].measured.ids),
        command=command,
        shown=len(items),
        total=count,
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
        rows.append(
            {
                "index": index,
                "name": name,
                "colour": colours[index],
                "iou": iou,
                "key": key,
                **{
                    k: scores[0][k][name]
                    for k in ("precision", "recall", "false_positive", "false_negative")
                },
            }
        )
    return sorted(rows, key=lambda r: (r["key"] is None, -(r["key"] or 0)))


def _mistakes(matrix: np.ndarray, spec: Spec, colours: Sequence[str], most: int = 7) -> list[dict]:
    """The pairs of classes that cost most pixels, as shares of all wrong pixels in percent."""
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [(int(n) // len(wrong), int(n) % len(wrong)) for n in order if wrong.flat[n]]
    return [
        {
            "truth": spec.classes[row],
            "prediction": spec.classes[column],
            "colours": (colours[row], colours[column]),
            "share": 100 * float(wrong[row, column] / wrong.sum()),
        }
        for row, column in pairs
    ]


def _gallery(spec: Spec, runs: Sequence[Run], workers: int, quiet: bool) -> tuple[list[dict], int]:
    ids = runs[0].measured.ids
    miou = np.stack([run.measured.image_miou for run in runs])
    iou = np.stack([run.measured.image_iou for run in runs])
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
            item["id"] = ids[row]
            item["miou"] = [_percent(v) for v in miou[:, row]]
            item["iou"] = {
                str(c): [_percent(v) for v in iou[:, row, c]]
                for c in range(spec.num_classes)
                if not np.isnan(iou[:, row, c]).all()
            }
            item["differ"] = None if disagree is None else _percent(disagree[row])
            items.append(item)
            bar.update()
    return items, len(ids)


def _percent(value: float) -> float | None:
    return None if np.isnan(value) else round(100 * float(value), 1)


def _figures(run: Run) -> list[dict]:
    """Threshold sweep and training curves of a run, those that there are."""
    measured, figures = run.measured, []
    if measured.curve:
        figures.append(
            {
                "title": "mIoU over the background threshold",
                "note": f"best at {measured.threshold:.2f}",
                "names": [],
                "svg": chart.lines(
                    measured.thresholds,
                    {"mIoU %": [100 * v for v in measured.curve]},
                    "mIoU over the constant background score",
                    x_label="threshold",
                    mark=measured.threshold,
                    floor_at_zero=False,
                ),
            }
        )
    log = read_log(run.training / "log.jsonl") if run.training else {}
    if len(log.get("step", ())) < 2:
        return figures
    steps = log.pop("step")
    rate = {name: log.pop(name) for name in list(log) if name == "lr" or name.startswith("lr_")}
    losses = {"loss": log.pop("loss")} if "loss" in log else {}
    # Rates of work (images a second and the like) are no losses, whatever a stage calls them.
    losses |= {k: v for k, v in log.items() if not k.endswith(("_per_second", "second", "seconds"))}
    for title, series in (("Losses", losses), ("Learning rate", rate)):
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
    lines: dict[float, dict] = {}
    if not path.is_file():
        return {}
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text, parse_int=float)  # which knows no limit
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and isinstance(step := line.get("step"), float | int):
            lines[step] = line
    rows = [lines[step] for step in sorted(lines)]
    names = dict.fromkeys(
        k for row in rows for k, v in row.items() if isinstance(v, int | float) and k != "epoch"
    )
    return {
        name: np.array(
            [v if isinstance(v := row.get(name), int | float) else np.nan for row in rows], float
        )
        for name in names
    }
