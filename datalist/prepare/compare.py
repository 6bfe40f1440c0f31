"""Holds masks against tags and against each other: values of another meaning are found out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from base import IGNORE

ENOUGH = 4
"""Images with a mask and tags from which on the numbers of classes are compared."""
MANY = 8
"""Images from which on masks that have nothing in common with most tags are an error."""
AGREE, ANOTHER = 0.5, 0.8
"""Share of the images whose mask shows the tags: below the first as it is, at the second or above
in another order, the order is wrong."""

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class MaskFacts:
    """What is in a mask: its values, and the colour of each where it has a palette."""

    values: frozenset[int]
    colours: Mapping[int, Colour] = field(default_factory=dict)

    @property
    def classes(self) -> frozenset[int]:
        """Values but the background and 255."""
        return self.values - {0, IGNORE}


def command(folder: Path, root: Path, *pairs: str) -> str:
    """The command that numbers masks anew."""
    words = " ".join(f"'{pair}'" for pair in pairs)
    return f"`python -m datalist.prepare.masks {folder} {root} --map {words}`"


def compare(
    masks: Mapping[str, MaskFacts],
    tags: Mapping[str, Sequence[int]],
    classes: Sequence[str],
    folder: Path,
    root: Path,
) -> tuple[list[str], list[str]]:
    """Compare the masks of a split with each other and with the tags.

    Args:
        masks: by image id; those that can be read.
        tags: class indices by image id, as far as they are known.
        classes: names, background first.
        folder: of the masks.
        root: of the data set.

    Returns:
        Sentences on masks that mean something else, which would spoil every score; and sentences
        to print.
    """
    errors = [
        *foreign_values(masks, classes, folder, root),
        *two_valued(masks, classes, folder, root),
        *own_palettes(masks, folder, root),
    ]
    if errors:
        return errors, []
    both = {
        name: (facts.classes, frozenset(tags[name]))
        for name, facts in masks.items()
        if name in tags
    }
    errors = [
        *from_zero({name: masks[name].values for name in both}, tags, classes, folder, root),
        *other_order(list(both.values()), classes, folder, root),
    ]
    differ = [name for name, (shown, told) in both.items() if shown != told]
    if errors or not differ:
        return errors, []
    name = differ[0]
    shown, told = (
        ", ".join(classes[k] for k in sorted(row)) or "none of the classes" for row in both[name]
    )
    apart = sum(bool(s and t and not s & t) for s, t in both.values())
    sentence = (
        f"mask and tags differ in {len(differ)} of {len(both)} images, such as '{name}': its mask "
        f"shows {shown}, its tags say {told}."
    )
    if len(both) >= MANY and apart > len(both) / 2:
        return [f"{sentence[:-1]}; {apart} have no class in common."], []
    return [], [sentence]


def foreign_values(
    masks: Mapping[str, MaskFacts], classes: Sequence[str], folder: Path, root: Path
) -> list[str]:
    """One sentence on all values that are no class."""
    wrong = {
        name: over
        for name, facts in masks.items()
        if (over := {value for value in facts.classes if value >= len(classes)})
    }
    if not wrong:
        return []
    values = sorted(set().union(*wrong.values()))
    some = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
    first = f"{folder / min(wrong)}.png"
    who = f"{first} holds" if len(wrong) == 1 else f"{len(wrong)} masks, such as {first}, hold"
    return [
        f"{who} the value {some}, but classes go from 0 to {len(classes) - 1} ({IGNORE} = ignore): "
        f"number them anew with "
        f"{command(folder, root, f'{values[0]}={classes[1]}')}, or repair them."
    ]


def two_valued(
    masks: Mapping[str, MaskFacts], classes: Sequence[str], folder: Path, root: Path
) -> list[str]:
    """A sentence where 0 and 255 are background and object, not background and "ignore"."""
    plain = [name for name, facts in masks.items() if IGNORE in facts.values and not facts.classes]
    if not plain or (len(plain) <= len(masks) / 2 and any(f.classes for f in masks.values())):
        return []
    name = classes[1] if len(classes) == 2 else "TAG"
    return [
        f"{len(plain)} of {len(masks)} masks hold 0 and 255 alone and no class, and 255 means "
        f"'ignore this pixel'. Where 255 is the object, run {command(folder, root, f'255={name}')}"
        + (" (TAG: the only tag of the picture)." if name == "TAG" else ".")
    ]


def own_palettes(masks: Mapping[str, MaskFacts], folder: Path, root: Path) -> list[str]:
    """A sentence where one colour has several numbers: every mask has a palette of its own."""
    numbers: dict[Colour, dict[int, str]] = defaultdict(dict)
    for name, facts in masks.items():
        for value in facts.values & facts.colours.keys():
            numbers[facts.colours[value]].setdefault(value, name)
    for colour, seen in numbers.items():
        if len(seen) > 1:
            (one, first), (two, second) = list(seen.items())[:2]
            return [
                f"masks number their colours in their own ways: {hex_of(colour)} is {one} in "
                f"{first}.png and {two} in {second}.png. Number them by colour: "
                f"{command(folder, root, f'{hex_of(colour)}=CLASS', '...')}."
            ]
    return []


def from_zero(
    values: Mapping[str, frozenset[int]],
    tags: Mapping[str, Sequence[int]],
    classes: Sequence[str],
    folder: Path,
    root: Path,
) -> list[str]:
    """A sentence where 0 is the first class, and nothing is background."""
    pairs = [(row - {IGNORE}, set(tags[name])) for name, row in values.items()]
    pairs = [(row, told) for row, told in pairs if row and told]
    if len(pairs) < ENOUGH or np.mean([row - {0} == told for row, told in pairs]) >= AGREE:
        return []
    if np.mean([{k + 1 for k in row} == told for row, told in pairs]) < ANOTHER:
        return []
    numbers = (f"{k}={name}" for k, name in enumerate(classes[1:]))
    return [
        "the masks number the classes from 0, which means background here: they show the tags if "
        f"0 is '{classes[1]}'. Look at some; then run {command(folder, root, *numbers)} (and "
        "255=background, if that is what 255 marks)."
    ]


def other_order(
    both: Sequence[tuple[frozenset[int], frozenset[int]]],
    classes: Sequence[str],
    folder: Path,
    root: Path,
) -> list[str]:
    """A sentence where the masks fit the tags in another order of the classes.

    Args:
        both: classes in the mask and in the tags of each image.
    """
    pairs = [(shown, told) for shown, told in both if shown or told]
    if len(pairs) < ENOUGH:
        return []
    together = np.zeros((len(classes), len(classes)))
    for shown, told in pairs:
        for value in shown:
            for tag in told:
                together[value, tag] += 1
    shows = np.array([sum(k in shown for shown, _ in pairs) for k in range(len(classes))])
    tells = np.array([sum(k in told for _, told in pairs) for k in range(len(classes))])
    likeness = 2 * together / np.maximum(shows[:, None] + tells, 1)
    values, meant = linear_sum_assignment(likeness[1:, 1:] + 1e-9 * np.eye(len(classes) - 1), True)
    order = {0: 0, **{int(v) + 1: int(t) + 1 for v, t in zip(values, meant)}}
    now = np.mean([shown == told for shown, told in pairs])
    then = np.mean([{order[k] for k in shown} == told for shown, told in pairs])
    if now >= AGREE or then < ANOTHER:
        return []
    moved = [k for k in range(1, len(classes)) if order[k] != k and shows[k]]
    return [
        f"the masks number the classes in another order: they show the tags of {now:.0%} of the "
        f"images as they are, and of {then:.0%} if {moved[0]} is '{classes[order[moved[0]]]}', not "
        f"'{classes[moved[0]]}'. Look at some; then run "
        f"{command(folder, root, *(f'{k}={classes[order[k]]}' for k in moved))}."
    ]


def hex_of(colour: Colour) -> str:
    """A colour as #rrggbb."""
    return "#" + bytes(colour).hex()
