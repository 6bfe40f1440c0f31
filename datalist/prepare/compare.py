"""Holds masks against tags and against each other: values of another meaning are found out."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
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


@dataclass(frozen=True)
class Split:
    """The masks that can be read and the known tags of a split, by image id."""

    masks: Mapping[str, MaskFacts]
    tags: Mapping[str, Sequence[int]]
    classes: Sequence[str]
    folder: Path
    root: Path

    @property
    def both(self) -> dict[str, tuple[frozenset[int], frozenset[int]]]:
        """Classes in the mask and in the tags of each image that has both."""
        known = {name: facts for name, facts in self.masks.items() if name in self.tags}
        return {name: (f.classes, frozenset(self.tags[name])) for name, f in known.items()}

    def command(self, *pairs: str) -> str:
        """The command that numbers masks anew."""
        words = " ".join(f"'{pair}'" for pair in pairs)
        return f"`python -m datalist.prepare.masks {self.folder} {self.root} --map {words}`"


def compare(split: Split) -> tuple[list[str], list[str]]:
    """Compare the masks of a split with each other and with the tags.

    Returns:
        Sentences on masks that mean something else, which would spoil every score; and others.
    """
    if errors := [*foreign_values(split), *two_valued(split), *own_palettes(split)]:
        return errors, []
    both = split.both
    errors = [*from_zero(split), *other_order(split)]
    differ = [name for name, (shown, told) in both.items() if shown != told]
    if errors or not differ:
        return errors, []
    shown, told = (
        ", ".join(split.classes[k] for k in sorted(row)) or "none of the classes"
        for row in both[differ[0]]
    )
    apart = sum(bool(s and t and not s & t) for s, t in both.values())
    sentence = (
        f"mask and tags differ in {len(differ)} of {len(both)} images, such as '{differ[0]}': its "
        f"mask shows {shown}, its tags say {told}."
    )
    if len(both) >= MANY and apart > len(both) / 2:
        return [f"{sentence[:-1]}; {apart} have no class in common."], []
    return [], [sentence]


def foreign_values(split: Split) -> Iterator[str]:
    """One sentence on all values that are no class."""
    count = len(split.classes)
    wrong = {name: {v for v in f.classes if v >= count} for name, f in split.masks.items()}
    names = sorted(name for name, values in wrong.items() if values)
    if not names:
        return
    values = sorted(set().union(*wrong.values()))
    some = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
    first = f"{split.folder / names[0]}.png"
    who = f"{first} holds" if len(names) == 1 else f"{len(names)} masks, such as {first}, hold"
    command = split.command(f"{values[0]}={split.classes[1]}")
    yield (
        f"{who} the value {some}, but classes go from 0 to {count - 1} ({IGNORE} = ignore): number "
        f"them anew with {command}, or repair them."
    )


def two_valued(split: Split) -> Iterator[str]:
    """A sentence where 0 and 255 are background and object, not background and "ignore"."""
    masks, count = split.masks, len(split.classes)
    plain = [name for name, f in masks.items() if IGNORE in f.values and not f.classes]
    if plain and (len(plain) > len(masks) / 2 or not any(f.classes for f in masks.values())):
        name = split.classes[1] if count == 2 else "TAG"
        yield (
            f"{len(plain)} of {len(masks)} masks hold 0 and 255 alone and no class, and 255 means "
            f"'ignore this pixel'. Where 255 is the object, run {split.command(f'255={name}')}"
            + (" (TAG: the only tag of the picture)." if count > 2 else ".")
        )


def own_palettes(split: Split) -> Iterator[str]:
    """A sentence where one colour has several numbers: every mask has a palette of its own."""
    numbers: dict[Colour, dict[int, str]] = defaultdict(dict)
    for name, facts in split.masks.items():
        for value in facts.values & facts.colours.keys():
            numbers[facts.colours[value]].setdefault(value, name)
    for colour, seen in numbers.items():
        if len(seen) > 1:
            code = "#" + bytes(colour).hex()
            (one, first), (two, second), *_ = seen.items()
            yield (
                f"masks number their colours in their own ways: {code} is {one} in {first}.png and "
                f"{two} in {second}.png. Number them by colour: "
                f"{split.command(f'{code}=CLASS', '...')}."
            )
            return


def from_zero(split: Split) -> Iterator[str]:
    """A sentence where 0 is the first class, and nothing is background."""
    pairs = [(split.masks[name].values - {IGNORE}, told) for name, (_, told) in split.both.items()]
    pairs = [(row, told) for row, told in pairs if row and told]
    if len(pairs) < ENOUGH or np.mean([row - {0} == told for row, told in pairs]) >= AGREE:
        return
    if np.mean([{k + 1 for k in row} == told for row, told in pairs]) >= ANOTHER:
        command = split.command(*(f"{k}={name}" for k, name in enumerate(split.classes[1:])))
        yield (
            "the masks number the classes from 0, which means background here: they show the tags "
            f"if 0 is '{split.classes[1]}'. Look at some; then run {command} (and 255=background, "
            "if that is what 255 marks)."
        )


def other_order(split: Split) -> Iterator[str]:
    """A sentence where the masks fit the tags in another order of the classes."""
    classes = split.classes
    pairs = [(shown, told) for shown, told in split.both.values() if shown or told]
    if len(pairs) < ENOUGH:
        return
    shows, tells = np.zeros((2, len(pairs), len(classes)))
    for row, (shown, told) in enumerate(pairs):
        shows[row, list(shown)] = tells[row, list(told)] = 1
    count = shows.sum(0)
    likeness = 2 * (shows.T @ tells) / np.maximum(count[:, None] + tells.sum(0), 1)
    values, meant = linear_sum_assignment(likeness[1:, 1:] + 1e-9 * np.eye(len(classes) - 1), True)
    order = {0: 0, **{int(v) + 1: int(t) + 1 for v, t in zip(values, meant)}}
    now = np.mean([shown == told for shown, told in pairs])
    then = np.mean([{order[k] for k in shown} == told for shown, told in pairs])
    if now >= AGREE or then < ANOTHER:
        return
    moved = [k for k in range(1, len(classes)) if order[k] != k and count[k]]
    first = moved[0]
    yield (
        f"the masks number the classes in another order: they show the tags of {now:.0%} of the "
        f"images as they are, and of {then:.0%} if {first} is '{classes[order[first]]}', not "
        f"'{classes[first]}'. Look at some; then run "
        f"{split.command(*(f'{k}={classes[order[k]]}' for k in moved))}."
    )
