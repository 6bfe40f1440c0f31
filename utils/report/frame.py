"""What the pages share: the frame around them, colours, and the record of a run."""

import json
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

from base.file import write_text
from datalist.palette import palette
from datalist.spec import Spec
from utils.cover import TABLE, class_names, read_covers
from utils.measure import Predictions
from utils.record import read_record

COVERS = 500
"""Rows of the table of pictures, at most."""


def write_page(path: Path, page: str, data: dict[str, Any], **values: Any) -> int:
    """Write one HTML file that needs no other file and no network; returns its size in bytes.

    Of the values for the template, the frame needs title, dataset and split.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "template"),
        autoescape=True,  # names of classes and images are other people's text
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    date = datetime.now().strftime("%Y-%m-%d %H:%M")
    template = environment.get_template(f"{page}.html")
    text = template.render(values, page=page, data=data, date=date)
    write_text(path, text)
    return len(text.encode())


def class_colours(count: int) -> list[str]:
    """Colours of the first classes, such as "#800000"."""
    return ["#" + bytes(colour).hex() for colour in palette(count).tolist()]


def cover_table(folder: Path, ids: Collection[str]) -> dict[str, Any] | None:
    """The table of `utils.cover` for a page; None where test.py wrote none.

    Of many pictures, those whose mirror image's prediction differs most.
    """
    covers = {name: cover for name, cover in read_covers(folder).items() if name in set(ids)}
    if not covers:
        return None
    classes = class_names(covers)
    chosen = sorted(covers.values(), key=lambda cover: -cover["difference"])[:COVERS]
    rows = []
    for cover in sorted(chosen, key=lambda cover: cover["name"]):
        shares = [f"{cover['percent'].get(name, 0):.1f}" for name in classes]
        numbers = [f"{cover[name]:.3f}" for name in ("confidence", "difference")]
        rows.append([cover["name"], *shares, sum(cover["parts"].values()), *numbers])
    columns = ["picture", *classes, "parts", "confidence", "difference"]
    return {"columns": columns, "rows": rows, "total": len(covers), "path": str(folder / TABLE)}


def run_name(folder: Path, split: str) -> str:
    """Name a run after its folder; one that is only called after the split says whose it is."""
    folder = folder.resolve()
    if folder.name.startswith(split) and folder.parent.name:
        return f"{folder.parent.name}/{folder.name}"
    return folder.name


def find_training(folder: Path) -> Path | None:
    """Look for the log or recipe of a training run: in a folder, above it, in `train` beside."""
    above = folder.absolute().parent
    for parent in (folder, folder / "train", above, above / "train"):
        if (parent / "log.jsonl").is_file() or (parent / "recipe.json").is_file():
            return parent
    return None


def records(predictions: Predictions, training: Path | None) -> dict:
    """Commands of a run's training and test, its recipe, and the contrast of its masks."""
    train = read_record(training / "recipe.json") if training else {}
    predict = read_record(predictions.folder / "predict.json")
    commands = [train.pop("command", None), predict.get("command")]
    recipe = {str(k): _plain(v) for k, v in train.items()}
    if isinstance(settings := predict.get("settings"), dict):
        shown = settings.keys() - {"network", "tags"}
        recipe |= {f"test: {k}": _plain(v) for k, v in settings.items() if k in shown}
    commands = [c for c in commands if isinstance(c, str)]
    return {"commands": commands, "recipe": recipe, "contrast": find_contrast(training)}


def title_of(spec: Spec) -> str:
    """Name of somebody's folder of images: of `out/NAME/data`, which a chain arranged, NAME."""
    root = spec.root.resolve()
    return root.parent.name if root.name == "data" else root.name


def find_contrast(training: Path | None) -> dict[str, Any]:
    """What pseudo.py chose of contrast, for the masks that a network learned from.

    Returns:
        "used", "separation" in percent (of the product, of its square root), and "rows" of (class,
        measures, share in percent by measure); empty where the masks are of other origin.
    """
    for _ in range(2):  # masks of DSRG and RecurSeed are of a network that learned from cues
        recipe = read_record(training / "recipe.json") if training else {}
        masks = Path(str(recipe.get("cue") or recipe.get("mask") or "")).parent
        record = read_record(masks / "pseudo.json")
        settings = record.get("settings")
        if isinstance(settings, dict) and isinstance(settings.get("contrast_chosen"), dict):
            chosen = settings["contrast_chosen"]
            rows = [
                (name, chosen["measures"].get(name, []), {k: 100 * x for k, x in row.items()})
                for name, row in (chosen["share"] or {}).items()
            ]
            both = [100 * value for value in chosen["separation"]]
            return {"used": chosen["used"], "separation": both, "rows": rows}
        predicted = read_record(Path(record.get("seeds", masks)) / "predict.json")
        checkpoint = predicted.get("checkpoint")
        training = Path(checkpoint).parent if isinstance(checkpoint, str) else None
    return {}


def _plain(value: object) -> str:
    if isinstance(value, list) and all(isinstance(v, int | float | str) for v in value):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)
