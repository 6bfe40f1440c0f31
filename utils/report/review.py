"""The report of images without true masks: predictions by class and against the tags.

It opens without a network. Its reader can correct the tags of an image; the page saves all tags as
retag.csv, in the format of tags.csv.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote

import numpy as np

from base import UserError
from datalist.spec import Spec
from datalist.tag import read_tags
from utils.measure import Predictions, read_scores
from utils.progress import in_threads, progress
from utils.report import gallery
from utils.report.frame import class_colours, records, run_name, write_page

LEAST = 0.01
"""Share of an image's pixels from which on a class counts as seen in it (ours)."""
SIDE = 320
"""Pixels of the longer side of pictures in the page."""
BUDGET = 12_000_000
"""Bytes of all pictures in the page, in base64."""

Tags = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Seen:
    """What a network predicts in an image.

    share: share of the pixels of each class, (C,), sum 1.
    confidence: mean score over each class's pixels in [0, 1], (C,); NaN where unknown.
    """

    share: np.ndarray
    confidence: np.ndarray

    @property
    def classes(self) -> list[int]:
        """Foreground classes on at least `LEAST` of the image, the largest first."""
        order = np.argsort(-self.share, kind="stable")
        return [int(c) for c in order if c and self.share[c] >= LEAST]


def see(predictions: Predictions, image_id: str, num_classes: int) -> Seen:
    """Read the prediction of one image.

    Raises:
        UserError: an unreadable file, or a class that the data set does not have.
    """
    label = predictions.label(image_id)
    count = np.bincount(label.ravel(), minlength=256)
    if count[num_classes:255].any():
        raise UserError(
            f"{predictions.files[image_id]} holds the class {int(label[label < 255].max())}, but "
            f"the data set has {num_classes} (background counted): give its own --dataset"
        )
    count = count[:num_classes]
    confidence = np.full(num_classes, np.nan)
    if scores := read_scores(predictions, image_id):
        score, keys = scores
        if score.shape[1:] == label.shape:
            for channel, key in zip(score, keys):
                if count[key]:
                    confidence[key] = channel[label == key].mean() / 255
    return Seen(count / max(count.sum(), 1), confidence)


def disagreement(seen: Seen, tags: Sequence[int]) -> float:
    """How far a prediction and the tags of an image differ, 0 to 2.

    The share of the foreground that has no tag, plus the share of the tags that are not seen.
    """
    foreground = seen.share[1:].sum()
    strange = sum(seen.share[c] for c in seen.classes if c not in tags)
    lost = sum(c not in seen.classes for c in tags)
    return float(strange / max(foreground, 1e-9) + lost / max(len(tags), 1))


def tags_of(spec: Spec) -> dict[str, tuple[int, ...]]:
    """Tags of the images of all lists, as far as they are known."""
    tags: dict[str, tuple[int, ...]] = {}
    for split in spec.lists:
        try:
            tags |= read_tags(spec, spec.ids(split))
        except UserError:  # a list may have no tags
            continue
    return tags


def class_rows(spec: Spec, seen: Mapping[str, Seen], tags: Tags | None) -> list[dict]:
    """One row of the table for each foreground class, those with most images first."""
    colours = class_colours(spec.num_classes)
    rows = []
    for index in range(1, spec.num_classes):
        images = {name for name, item in seen.items() if index in item.classes}
        tagged = {name for name in seen if tags and index in tags[name]}
        shares = [seen[name].share[index] for name in images]
        confidence = [seen[name].confidence[index] for name in images]
        known = [value for value in confidence if not np.isnan(value)]
        rows.append(
            {
                "index": index,
                "name": spec.classes[index],
                "colour": colours[index],
                "seen": len(images),
                "tagged": len(tagged),
                "both": len(images & tagged),
                "lost": len(tagged - images),
                "strange": len(images - tagged),
                "share": 100 * float(np.mean(shares)) if shares else None,
                "confidence": 100 * float(np.mean(known)) if known else None,
            }
        )
    return sorted(rows, key=lambda row: -max(row["seen"], row["tagged"]))


def write(
    path: Path,
    spec: Spec,
    split: str,
    predictions: Predictions,
    ids: Sequence[str],
    command: str,
    training: Path | None = None,
    workers: int = 2,
    quiet: bool = False,
) -> int:
    """Write the page.

    Args:
        path: the HTML file.
        spec, split: data set and list of the images.
        predictions: labels, or scores with background.
        ids: images with a prediction.
        command: of the evaluation, as typed.
        training: folder with recipe.json, where there is one.
        workers: threads.
        quiet: no progress bar.

    Returns:
        Size of the file in bytes.

    Raises:
        UserError: an image or prediction that cannot be read.
    """
    known = tags_of(spec)
    tags = {name: known[name] for name in ids} if all(name in known for name in ids) else None
    read = partial(see, predictions, num_classes=spec.num_classes)
    seen = dict(zip(ids, in_threads(read, ids, workers, "read", quiet)))
    differ = {name: disagreement(seen[name], tags[name]) if tags else 0.0 for name in ids}
    order = sorted(ids, key=lambda name: -differ[name])
    items, spent = [], 0
    with progress(len(ids), "report", " images", quiet) as bar:
        for name in order:
            pictures = gallery.overlay(spec, name, predictions.label(name), SIDE)
            spent += len(pictures["photo"]) + len(pictures["label"])
            if spent > BUDGET and items:
                break
            items.append(pictures | item_of(name, seen[name], differ[name]))
            bar.update()
    name, record = run_name(predictions.folder, split), records(predictions, training)
    rows = class_rows(spec, seen, tags)
    scored = any(not np.isnan(item.confidence).all() for item in seen.values())
    views = {"all": "all images"}
    orders = {"unsure": "least confident first"} if scored else {}
    if tags:
        views |= {
            "differ": "tags and mask differ",
            "unmarked": "not marked yet",
            "marked": "marked",
        }
        orders = {"differ": "most different first"} | orders
    return write_page(
        path,
        "review",
        {
            "name": f"{spec.name} {split} {name}",
            "classes": list(spec.classes),
            "colours": class_colours(spec.num_classes),
            "tags": {name: list(row) for name, row in known.items()} if tags else None,
            "items": items,
        },
        title=name,
        dataset=spec.name,
        split=split,
        total=len(ids),
        shown=len(items),
        tagged=tags is not None,
        restricted=record["recipe"].get("test: restrict_to_tags") == "true",
        disagreeing=sum(value > 0 for value in differ.values()),
        rows=rows,
        widest=max([row["seen"] + row["lost"] for row in rows] + [1]),
        scored=scored,
        views=views if tags else {},
        orders=orders | {"id": "by name"},
        least=100 * LEAST,
        command=command,
        records=record,
        folder=str(predictions.folder),
        tags_file=quote(str(spec.root / "tags.csv")),
        images=quote(str(spec.root / spec.image[0])),
        retagged=quote(f"{spec.root}-retagged"),
    )


def item_of(name: str, seen: Seen, differ: float) -> dict:
    """What the page knows of an image beside its pictures."""
    classes = [
        [
            c,
            round(100 * float(seen.share[c]), 1),
            None if np.isnan(seen.confidence[c]) else round(100 * float(seen.confidence[c])),
        ]
        for c in seen.classes
    ]
    return {"id": name, "seen": classes, "differ": round(differ, 3)}
