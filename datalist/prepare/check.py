"""Checks a data set before training: statistics, warnings, and all errors.

`python -m datalist.prepare.check DIR` exits with 1 where training or evaluation would fail.
"""

import itertools
import math
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

import numpy as np
import tyro
from tqdm import tqdm

from base import UserError, entry
from datalist.bag import BAGS_FILE, read_bags
from datalist.bands import BANDS_FILE, Bands
from datalist.formats import is_picture
from datalist.image import PIXEL_LIMIT, mask_colours, read_mask, read_sized
from datalist.prepare.compare import MaskFacts, Split, compare
from datalist.prepare.small import advise, extents
from datalist.spec import Spec, resolve
from datalist.tag import Tags, find, from_text, from_xml, read_tags

NEARLY = 0.95
"""Share of the images from which on a class is nearly everywhere."""
FEW = 8
"""Images of a class below which it is hardly learned."""
CRF_BYTES = (256, 20)
"""Memory of prediction with the CRF for each pixel: a part, and a part for each class; an upper
bound, as test.py counts it."""
WORK_PIXELS = 2_000_000
"""Default of test.py's --work-pixels: it shrinks larger pictures to this."""
GROUPS = ("lists", "tags", "images", "masks")
"""Groups of errors, worst first: without lists or tags nothing trains."""


@dataclass
class Report:
    """What a check read: lines to print, warnings, and the errors that would stop a run."""

    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    inseparable: bool = False
    groups: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in GROUPS})

    @property
    def errors(self) -> list[str]:
        """All errors, worst first."""
        return [sentence for group in self.groups.values() for sentence in group]

    def __str__(self) -> str:
        lines = [*self.lines, *(f"warning: {sentence}" for sentence in self.warnings)]
        for name, sentences in self.groups.items():
            if sentences:
                lines.append(f"{len(sentences)} error{'s' * (len(sentences) > 1)} in {name}:")
                lines += [f"  error: {sentence.removesuffix('.')}" for sentence in sentences]
        if count := len(self.errors):
            verdict = f"{count} error{'s' * (count != 1)}: not ready"
        elif self.inseparable:
            verdict = "cannot be learned as it is (see the warnings; --go-on trains all the same)"
        else:
            verdict = "ready to train"
        return "\n".join([*lines, verdict])


def inspect(spec: Spec, splits: Sequence[str] = ("train", "val"), threads: int = 1) -> Report:
    """Read every list, tag, image and mask of some splits; tags are needed of "train"."""
    report = Report()
    lists = report.groups["lists"]
    report.lines.append(f"{spec.name}: {spec.num_classes} classes: {', '.join(spec.classes)}")
    if spec.bands != Bands():
        report.lines.append(f"{spec.bands} ({BANDS_FILE})")
    ids: dict[str, list[str]] = {}
    images: list[Image] = []
    if "train" in splits and "train" not in spec.lists:
        lists.append(f"{spec.name} has no split 'train' to train on.")
    for split in filter(spec.lists.__contains__, splits):
        try:
            ids[split] = spec.ids(split, lists)
        except UserError as error:
            lists.append(str(error))
            continue
        images += _check_images(spec, split, ids[split], report, threads)
        if split == "train":
            _check_tags(spec, ids[split], report)
    if spec.name not in ("voc", "coco"):  # which have lists of their own, and images beside them
        _check_unlisted(spec, report)
        if advice := advise(((x.size, x.extents) for x in images if x.size), spec.classes):
            report.warnings.append(advice)
    for first, second in itertools.combinations(ids, 2):
        if shared := set(ids[first]) & set(ids[second]):
            report.warnings.append(
                f"{len(shared)} images are in both {first} and {second}, such as "
                f"'{min(shared)}': scores on {second} will look too good."
            )
    return report


@dataclass
class Image:
    """What was found of an image: (height, width), content of its mask, sizes, what is wrong."""

    size: tuple[int, int] | None = None
    masked: bool = False
    facts: MaskFacts | None = None
    extents: dict[int, float] | None = None
    image_error: str = ""
    mask_error: str = ""


def _read(spec: Spec, name: str) -> Image:
    path = spec.mask_path(name)
    image = Image(masked=path.is_file())
    try:
        image.size = read_sized(spec.image_path(name), spec.bands)[1]
    except UserError as error:
        image.image_error = str(error)
    if not image.masked:
        return image
    try:
        mask = read_mask(path)
        image.extents = extents(mask)
        image.facts = MaskFacts(frozenset(np.unique(mask).tolist()), mask_colours(path))
        if image.size and mask.shape != image.size:
            sizes = f"{_by(mask.shape)}, its image {_by(image.size)}"
            image.mask_error = f"{path} is {sizes} pixels."
    except UserError as error:
        image.mask_error = str(error)
    return image


def _check_images(
    spec: Spec, split: str, ids: list[str], report: Report, threads: int
) -> list[Image]:
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        read = pool.map(partial(_read, spec), ids)
        rows = list(tqdm(read, split, len(ids), leave=False, disable=None, file=sys.stderr))
    sizes = [row.size for row in rows if row.size]
    line = f"{split}: {len(ids)} images"
    if sizes:
        ends = dict.fromkeys(_by(end(sizes, axis=0)) for end in (np.min, np.max))
        line += f" of {' to '.join(ends)} pixels (height x width)"
    masks = sum(row.masked for row in rows)
    report.lines.append(f"{line}, {masks or 'no'} masks")
    report.groups["images"] += together([row.image_error for row in rows if row.image_error])
    tags: Tags = {}
    with suppress(UserError):  # said with the tags
        tags = _read_tags(spec, ids, [])
    facts = {name: row.facts for name, row in zip(ids, rows) if row.facts}
    errors, lines = compare(Split(facts, tags, spec.classes, spec.mask_folder, spec.root))
    report.groups["masks"] += [*(row.mask_error for row in rows if row.mask_error), *errors]
    report.lines += lines
    lost = [name for name, row in zip(ids, rows) if not row.masked]
    if split == "val" and lost:
        report.groups["masks"].append(
            f"{len(lost)} of {len(ids)} val images have no mask in {spec.mask_folder}, such as "
            f"'{lost[0]}': evaluation needs them. Add them, take these images off the list, or "
            f"remove {spec.lists[split]} to train without evaluation."
        )
    if sizes:
        _check_memory(spec, max(sizes, key=math.prod), report)
    return rows


def together(sentences: list[str]) -> list[str]:
    """Sentences on images; those that one command answers for all are one."""
    asked = [sentence for sentence in sentences if "datalist.prepare.bands" in sentence]
    if len(asked) < 2:
        return sentences
    rest = [sentence for sentence in sentences if sentence not in asked]
    return [f"{asked[0]} (and {len(asked) - 1} images more)", *rest]


def _check_memory(spec: Spec, size: tuple[int, int], report: Report) -> None:
    """Say what prediction takes on the largest picture, where test.py shrinks it."""
    pixels = math.prod(size)
    if pixels <= WORK_PIXELS:
        return
    each = (CRF_BYTES[0] + CRF_BYTES[1] * spec.num_classes) / 1e9
    report.lines.append(
        f"largest picture: {_by(size)} ({pixels / 1e6:.0f} megapixels); test.py with --crf takes "
        f"about {each * WORK_PIXELS:.1f} GB for it at {WORK_PIXELS / 1e6:.0f} megapixels "
        f"(--work-pixels), and would take {each * pixels:.1f} GB at its own size"
    )
    if pixels > PIXEL_LIMIT:
        report.warnings.append(
            f"pictures of more than {PIXEL_LIMIT / 1e6:.0f} megapixels are read at half their size."
        )


def _check_unlisted(spec: Spec, report: Report) -> None:
    listed: set[str] = set()
    for split in spec.lists:
        with suppress(UserError):  # said above, where the list is one of those asked for
            listed |= set(spec.ids(split))
    files = [path for folder in spec.image for path in sorted((spec.root / folder).iterdir())]
    lost = [path for path in files if is_picture(path) and path.stem not in listed]
    if lost:
        report.warnings.append(f"{len(lost)} images are in no list, such as {lost[0]}.")


def _check_tags(spec: Spec, ids: list[str], report: Report) -> None:
    try:
        tags = _read_tags(spec, ids, report.groups["tags"])
    except UserError as error:
        report.groups["tags"].append(str(error))
        return
    if not tags:
        return
    count = Counter(tag for row in tags.values() for tag in row)
    pairs = Counter((a, b) for row in tags.values() for a in row for b in row if a != b)
    untagged = sum(not row for row in tags.values())
    mean = sum(count.values()) / len(tags)
    report.lines.append(f"tags of train: {mean:.2f} an image, {untagged} images without")
    try:
        if (bags := read_bags(spec, list(tags), tags)) is not None:
            most = np.bincount(bags).max()
            line = f"{len(bags)} tiles of {bags.max() + 1} pictures, at most {most} a picture"
            report.lines.append(f"bags of train: {line} ({BAGS_FILE})")
    except UserError as error:
        report.groups["tags"].append(str(error))
    warn = report.warnings.append
    width = max(map(len, spec.classes))
    for index, name in enumerate(spec.classes[1:], 1):
        seen = count[index]
        row = f"  {name:{width}} {seen:7d} images {100 * seen / len(tags):5.1f} %"
        mate = max(count, key=lambda k: (pairs[index, k], -k), default=index)
        if seen and pairs[index, mate]:
            share = 100 * pairs[index, mate] / seen
            row += f"   with {spec.classes[mate]} in {share:.0f} % of them"
        report.lines.append(row)
        if 0 < seen < FEW:
            images = "one train image" if seen == 1 else f"{seen} train images"
            warn(f"'{name}' is in {images}: too few to learn it, add some ({FEW} at least).")
        if not seen:
            warn(f"'{name}' is in no train image: it will never be predicted.")
        elif seen == len(tags):
            report.inseparable = True
            warn(
                f"'{name}' is in every train image, so tags do not tell it from the background "
                "and it cannot be learned: add images without it."
            )
        elif seen >= NEARLY * len(tags):
            share = f"{100 * seen / len(tags):.0f} % of the train images"
            warn(f"'{name}' is in {share}: too few without it to learn what it looks like.")
        for other in range(index + 1, spec.num_classes):
            if seen and seen == count[other] == pairs[index, other]:
                report.inseparable = True
                warn(
                    f"'{name}' and '{spec.classes[other]}' only ever come together, so tags do "
                    "not tell them apart: add images of one without the other."
                )
    if untagged == len(tags):
        sentence = f"no train image of {spec.name} has a tag: nothing to learn from."
        report.groups["tags"].append(sentence)


def _read_tags(spec: Spec, ids: list[str], faults: list[str]) -> Tags:
    """Tags of the images that have readable ones; a sentence for each that has not."""
    source, paths = find(spec)
    if source == "text":
        tags = from_text(paths[0], spec.classes, faults)
        if lost := [name for name in ids if name not in tags]:
            faults.append(f"{paths[0]} has no tags of {len(lost)} images: {', '.join(lost)}.")
        return {name: tags[name] for name in ids if name in tags}
    if source != "xml":
        return read_tags(spec, ids)
    tags = {}
    for name in ids:
        try:
            tags[name] = from_xml(spec.annotation_path(name), spec.classes)
        except UserError as error:
            faults.append(str(error))
    return tags


def _by(size: Iterable[int]) -> str:
    return " x ".join(str(int(side)) for side in size)


@dataclass(frozen=True)
class Arguments:
    """Check a data set before training: statistics, warnings, and all errors."""

    dataset: Annotated[str, tyro.conf.Positional]
    """voc, coco, scenes or the path of a folder in VOC layout."""
    root: str | None = None
    """Folder of voc, coco or scenes."""
    split: tuple[str, ...] = ("train", "val")
    """Lists to read."""
    threads: int = os.cpu_count() or 1
    """Images decoded at once."""
    go_on: bool = False
    """Exit with 0 where tags do not tell classes apart: a class is in every image, or two classes
    always come together."""


def main(arguments: Arguments) -> int:
    """Print the report; 1 where something would stop a run, or cannot be learned."""
    spec = resolve(arguments.dataset, arguments.root)
    report = inspect(spec, arguments.split, arguments.threads)
    print(report)
    return 1 if report.errors or (report.inseparable and not arguments.go_on) else 0


if __name__ == "__main__":
    with entry():
        sys.exit(main(tyro.cli(Arguments, description=Arguments.__doc__)))
