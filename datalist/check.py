"""Read a data set before any training, and say what is in it and what is wrong with it.

`python -m datalist.check DIR` exits with 1 where training or evaluation would fail.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import tyro
from tqdm import tqdm

from base import UserError
from datalist.image import read_image, read_mask
from datalist.spec import SUFFIXES, Spec, resolve
from datalist.tag import Tags, find, from_xml, read_tags

SHOWN = 5
"""Examples printed of each kind of mistake."""
NEARLY = 0.95
"""Share of the images from which on a class is nearly everywhere."""


@dataclass
class Report:
    """What a check found: lines to print, things to know, things that stop a run."""

    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, mistakes: list[str]) -> None:
        """Take mistakes of one kind as errors, the first few of them in full."""
        self.errors += mistakes[:SHOWN]
        if len(mistakes) > SHOWN:
            self.errors.append(f"... and {len(mistakes) - SHOWN} more of this kind.")

    def __str__(self) -> str:
        count = len(self.errors)
        verdict = f"{count} error{'s' * (count != 1)}: not ready" if count else "ready to train"
        return "\n".join(
            [
                *self.lines,
                *(f"warning: {line}" for line in self.warnings),
                *(f"error: {line}" for line in self.errors),
                verdict,
            ]
        )


def inspect(spec: Spec, splits: Iterable[str] = ("train", "val"), threads: int = 1) -> Report:
    """Read every list, tag, image and mask of some splits.

    Args:
        spec: the data set.
        splits: names of lists; "train" is the one that tags are needed of.
        threads: images decoded at once.
    """
    report = Report()
    report.lines.append(f"{spec.name}: {spec.num_classes} classes: {', '.join(spec.classes)}")
    found: dict[str, list[str]] = {}
    for split in splits:
        if split not in spec.lists:
            if split == "train":
                report.errors.append(f"{spec.name} has no split 'train' to train on.")
            continue
        try:
            found[split] = spec.ids(split)
        except UserError as error:
            report.errors.append(str(error))
            continue
        _check_images(spec, split, found[split], report, threads)
        if split == "train":
            _check_tags(spec, found[split], report)
    if spec.name not in ("voc", "coco"):  # which have lists of their own, and images beside them
        _check_unlisted(spec, report)
    names = list(found)
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            shared = set(found[first]) & set(found[second])
            if shared:
                report.warnings.append(
                    f"{len(shared)} images are in both {first} and {second}, such as "
                    f"'{min(shared)}': scores on {second} will look too good."
                )
    return report


def _check_images(spec: Spec, split: str, ids: list[str], report: Report, threads: int) -> None:
    def check(name: str) -> tuple[tuple[int, int] | None, str, str, bool]:
        size, image_error, mask_error = None, "", ""
        try:
            size = read_image(spec.image_path(name)).shape[:2]
        except UserError as error:
            image_error = str(error)
        path = spec.mask_path(name)
        masked = path.is_file()
        if masked:
            try:
                mask = read_mask(path, spec.num_classes)
                if size and mask.shape != size:
                    mask_error = f"{path} is {_by(mask.shape)}, its image {_by(size)} pixels."
            except UserError as error:
                mask_error = str(error)
        return size, image_error, mask_error, masked

    rows = _each(check, ids, threads, split)
    sizes = np.array([row[0] for row in rows if row[0]]).reshape(-1, 2)
    line = f"{split}: {len(ids)} images"
    if len(sizes):
        low, high = sizes.min(axis=0), sizes.max(axis=0)
        line += f" of {_by(low)}" + (f" to {_by(high)}" if (low != high).any() else "")
        line += " pixels (height x width)"
    masks = sum(row[3] for row in rows)
    report.lines.append(f"{line}, {masks or 'no'} masks")
    report.add([row[1] for row in rows if row[1]])
    report.add([row[2] for row in rows if row[2]])
    if split == "val" and masks < len(ids):
        lost = next(name for name, row in zip(ids, rows) if not row[3])
        report.warnings.append(
            f"{len(ids) - masks} of {len(ids)} val images have no mask, such as '{lost}': "
            "they cannot be evaluated."
        )


def _check_unlisted(spec: Spec, report: Report) -> None:
    listed: set[str] = set()
    for split in spec.lists:
        with suppress(UserError):  # said above, where the list is one of those asked for
            listed |= set(spec.ids(split))
    files = [path for folder in spec.image for path in sorted((spec.root / folder).iterdir())]
    lost = [path for path in files if path.suffix.lower() in SUFFIXES and path.stem not in listed]
    if lost:
        report.warnings.append(f"{len(lost)} images are in no list, such as {lost[0]}.")


def _check_tags(spec: Spec, ids: list[str], report: Report) -> None:
    try:
        kind, _ = find(spec)
        if kind == "xml":
            tags, mistakes = _read_each(spec, ids)
            report.add(mistakes)
        else:
            tags = read_tags(spec, ids)
    except UserError as error:
        report.errors.append(str(error))
        return
    if not tags:
        return
    count = Counter(tag for row in tags.values() for tag in row)
    pairs = Counter((a, b) for row in tags.values() for a in row for b in row if a != b)
    untagged = sum(not row for row in tags.values())
    mean = sum(count.values()) / len(tags)
    report.lines.append(f"tags of train: {mean:.2f} an image, {untagged} images without")
    width = max(map(len, spec.classes))
    for index, name in enumerate(spec.classes[1:], 1):
        seen = count[index]
        row = f"  {name:{width}} {seen:7d} images {100 * seen / len(tags):5.1f} %"
        if seen and (mate := max(count, key=lambda k: (pairs[index, k], -k))) != index:
            share = 100 * pairs[index, mate] / seen
            row += f"   with {spec.classes[mate]} in {share:.0f} % of them" if share else ""
        report.lines.append(row)
        if not seen:
            report.warnings.append(f"'{name}' is in no train image: it will never be predicted.")
        elif seen == len(tags):
            report.warnings.append(
                f"'{name}' is in every train image, so tags do not tell it from the background "
                "and it cannot be learned: add images without it."
            )
        elif seen >= NEARLY * len(tags):
            report.warnings.append(
                f"'{name}' is in {100 * seen / len(tags):.0f} % of the train images: too few "
                "without it to learn what it looks like."
            )
        for other in range(index + 1, spec.num_classes):
            if seen and seen == count[other] == pairs[index, other]:
                report.warnings.append(
                    f"'{name}' and '{spec.classes[other]}' only ever come together, so tags do "
                    "not tell them apart: add images of one without the other."
                )
    if untagged == len(tags):
        report.errors.append(f"no train image of {spec.name} has a tag: nothing to learn from.")


def _read_each(spec: Spec, ids: list[str]) -> tuple[Tags, list[str]]:
    tags, mistakes = {}, []
    for name in ids:
        try:
            tags[name] = from_xml(spec.annotation_path(name), spec.classes)
        except UserError as error:
            mistakes.append(str(error))
    return tags, mistakes


def _each(check: Callable, ids: list[str], threads: int, title: str) -> list:
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        bar = tqdm(total=len(ids), desc=title, leave=False, disable=None, file=sys.stderr)
        rows = []
        for row in pool.map(check, ids):
            rows.append(row)
            bar.update()
        bar.close()
    return rows


def _by(size: Iterable[int]) -> str:
    return " x ".join(str(int(side)) for side in size)


@dataclass(frozen=True)
class Arguments:
    """Read a data set before any training, and say what is in it and what is wrong with it."""

    dataset: Annotated[str, tyro.conf.Positional]
    """voc, coco, scenes or the path of a folder in VOC layout."""
    root: str | None = None
    """Folder of voc, coco or scenes."""
    split: tuple[str, ...] = ("train", "val")
    """Lists to read."""
    threads: int = os.cpu_count() or 1
    """Images decoded at once."""


def main(arguments: Arguments) -> int:
    """Print the report; 1 where something would stop a run."""
    try:
        spec = resolve(arguments.dataset, arguments.root)
    except UserError as error:
        print(f"error: {error}")
        return 1
    report = inspect(spec, arguments.split, arguments.threads)
    print(report)
    return 1 if report.errors else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments, description=Arguments.__doc__)))
