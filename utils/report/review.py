"""The report of images without true masks: predictions by class and against the tags.

It opens without a network. Its reader can correct the tags of an image; the page saves all tags as
retag.csv, in the format of tags.csv.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote

import numpy as np

from base import UserError
from datalist.prepare.names import NAMES_FILE, read_names
from datalist.spec import Spec
from datalist.tag import read_tags, wrong_masks
from utils.cover import Cover, read_covers
from utils.measure import Predictions, read_scores
from utils.progress import in_threads, progress
from utils.report import frame, gallery

LEAST = 0.01
"""Share of an image's pixels from which on a class counts as seen in it (ours)."""
SIDE = 320
"""Pixels of the longer side of pictures in the page."""
BUDGET = 12_000_000
"""Bytes of all pictures in the page, in base64."""

Tags = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Seen:
    """What a network predicts in an image."""

    share: np.ndarray
    """Share of the pixels of each class, (C,), sum 1."""
    confidence: np.ndarray
    """Mean score over each class's pixels in [0, 1], (C,); NaN where unknown."""

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
    scores = read_scores(predictions, image_id)
    if scores and scores[0].shape[1:] == label.shape:
        for channel, key in zip(*scores):
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


def usual_shares(seen: Mapping[str, Seen]) -> np.ndarray:
    """Median share of each class over the images in which it is seen, (C,); NaN where it is not."""
    share = np.array([item.share for item in seen.values()])
    shown = np.where(share >= LEAST, share, np.nan)
    known = ~np.isnan(shown).all(0)
    median = np.full(shown.shape[1], np.nan)
    median[known] = np.nanmedian(shown[:, known], axis=0)
    return median


def odd_share(seen: Seen, usual: np.ndarray) -> tuple[float, int]:
    """How far a class's share is from the usual one: doublings or halvings, and the class."""
    classes = seen.classes
    far = [abs(float(np.log2(seen.share[c] / usual[c]))) for c in classes]
    return max(zip(far, classes), default=(0.0, 0))


def suspicion(seen: Seen, differ: float, usual: np.ndarray, cover: Cover | None = None) -> float:
    """How likely a mask is wrong, from 0 on: no probability, but an order (ours).

    The disagreement with the tags, a quarter for each doubling or halving of a class's usual share,
    what the least confident class (without scores, the mean of `cover`) lacks to certainty, and the
    share of pixels that the mirror image's prediction has otherwise, as a part of the foreground.
    """
    cover = cover or {"confidence": 1.0, "difference": 0.0}
    confidence = [seen.confidence[c] for c in seen.classes if not np.isnan(seen.confidence[c])]
    unsure = 1 - min(confidence, default=cover["confidence"])
    mirrored = min(1.0, cover["difference"] / max(float(seen.share[1:].sum()), LEAST))
    return differ + odd_share(seen, usual)[0] / 4 + unsure + mirrored


def next_steps(spec: Spec, path: Path, folder: Path, again: str, tagged: bool) -> list[dict]:
    """What a reader does next, at most three steps: title, text, link and command."""
    steps = []
    questions = path.with_name("questions.html")
    run = again or "YOUR TRAINING COMMAND"
    if questions.is_file() and not again.startswith("ANSWERS="):
        title = "Answer a few questions"
        text = "They tell the network what tags cannot: that the water is not the boat."
        command = f"FRESH=1 ANSWERS=~/Downloads/answers.csv {run}"
        steps.append({"title": title, "text": text, "link": questions.name, "command": command})
    if tagged:
        title = "Correct tags and masks below"
        text = "The first images are the most suspicious. Save retag.csv, then train again with it."
        command = f"cp ~/Downloads/retag.csv {quote(f'{spec.root}/tags.csv')} && FRESH=1 {run}"
        steps.append({"title": title, "text": text, "link": "#gallery", "command": command})
    title = "Draw 10 masks to know how good these are"
    text = "Correct them in a labelling tool (docs/data.md, How good are the masks?). "
    text += "This command writes a file to start from, for CVAT."
    command = f"python -m utils.report.annotate {quote(str(folder))} --format cvat "
    command += f"--dataset {quote(str(spec.root))} --out predicted.xml"
    return [*steps, {"title": title, "text": text, "link": "", "command": command}]


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
    colours = frame.class_colours(spec.num_classes)
    rows = []
    for index in range(1, spec.num_classes):
        images = {name for name, item in seen.items() if index in item.classes}
        tagged = {name for name in seen if tags and index in tags[name]}
        shares = [seen[name].share[index] for name in images]
        confidence = [seen[name].confidence[index] for name in images]
        known = [value for value in confidence if not np.isnan(value)]
        rows.append({
            "index": index, "name": spec.classes[index], "colour": colours[index],
            "seen": len(images), "tagged": len(tagged), "both": len(images & tagged),
            "lost": len(tagged - images), "strange": len(images - tagged),
            "share": 100 * float(np.mean(shares)) if shares else None,
            "confidence": 100 * float(np.mean(known)) if known else None,
        })  # fmt: skip
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
    again: str = "",
) -> int:
    """Write the page; returns its size in bytes.

    Args:
        command: the evaluation's, as typed.
        training: folder with recipe.json, where there is one.
        again: the command of the whole run, for what the page says to do next.

    Raises:
        UserError: an image or prediction that cannot be read.
    """
    known = tags_of(spec)
    tags = {name: known[name] for name in ids} if all(name in known for name in ids) else None
    read = partial(see, predictions, num_classes=spec.num_classes)
    seen = dict(zip(ids, in_threads(read, ids, workers, "read", quiet)))
    differ = {name: disagreement(seen[name], tags[name]) if tags else 0.0 for name in ids}
    usual = usual_shares(seen)
    covers = read_covers(predictions.folder)
    suspect = {name: suspicion(seen[name], differ[name], usual, covers.get(name)) for name in ids}
    order = sorted(ids, key=lambda name: -suspect[name])
    names = read_names(spec.root / NAMES_FILE)
    items, spent = [], 0
    with progress(len(ids), "report", " images", quiet) as bar:
        for name in order:
            pictures = gallery.overlay(spec, name, predictions.label(name), SIDE)
            spent += len(pictures["photo"]) + len(pictures["label"])
            if spent > BUDGET and items:
                break
            item = item_of(name, seen[name], differ[name], suspect[name], usual)
            items.append(pictures | item | {"name": names.get(name, "")})
            bar.update()
    name, record = frame.run_name(predictions.folder, split), frame.records(predictions, training)
    rows = class_rows(spec, seen, tags)
    scored = any(not np.isnan(item.confidence).all() for item in seen.values())
    data = {
        "name": f"{spec.name} {split} {name}",
        "classes": list(spec.classes),
        "colours": frame.class_colours(spec.num_classes),
        "tags": {name: list(row) for name, row in known.items()} if tags else None,
        "wrong": sorted(wrong_masks(spec)) if tags else [],
        "items": items,
    }
    return frame.write_page(
        path,
        "review",
        data,
        title=f"{frame.title_of(spec)}: masks of your {len(ids)} images",
        dataset=spec.name,
        split=split,
        trained="train" in spec.lists and set(ids) <= set(spec.ids("train")),
        steps=next_steps(spec, path, predictions.folder, again, tags is not None),
        total=len(ids),
        shown=len(items),
        tagged=tags is not None,
        restricted=record["recipe"].get("test: restrict_to_tags") == "true",
        disagreeing=sum(value > 0 for value in differ.values()),
        rows=rows,
        cover=frame.cover_table(predictions.folder, ids),
        mirrored=bool(covers),
        widest=max([row["seen"] + row["lost"] for row in rows] + [1]),
        scored=scored,
        least=100 * LEAST,
        command=command,
        records=record,
        folder=str(predictions.folder),
        images=quote(str(spec.root / spec.image[0])),
        retagged=quote(f"{spec.root}-retagged"),
    )


def item_of(name: str, seen: Seen, differ: float, suspect: float, usual: np.ndarray) -> dict:
    """What the page knows of an image beside its pictures."""
    far, index = odd_share(seen, usual)
    odd = [index, round(100 * float(usual[index]))] if far > 1 else None
    classes = []
    for c in seen.classes:
        share, sure = 100 * float(seen.share[c]), 100 * float(seen.confidence[c])
        classes.append([c, round(share, 1), None if np.isnan(sure) else round(sure)])
    numbers = {"differ": round(differ, 3), "suspect": round(suspect, 3), "odd": odd}
    return {"id": name, "seen": classes, **numbers}
