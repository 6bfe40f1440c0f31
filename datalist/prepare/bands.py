"""Chooses the bands of a data set's pictures, and measures what their values mean.

`python -m datalist.prepare.bands mydata --bands 4 3 2` writes mydata/bands.json, which training
reads and stores in its checkpoints. Pictures of 8 bits with grey or R, G, B need no such file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from tqdm import tqdm

from base import UserError, entry
from datalist.bands import BANDS_FILE, MOST, Bands, which_bands, write_bands
from datalist.formats import is_picture
from datalist.image import PictureFile
from datalist.spec import resolve

SHARES = (0.1, 99.9)
"""Percent of the values that lie below what becomes 0, and below what becomes 255."""
MOST_FILES = 1000
"""Pictures that are looked at for the values; of more, every n-th."""
MOST_PIXELS = 1 << 22
"""Pixels that are kept, over all pictures."""


@dataclass
class Survey:
    """What the pictures of a data set are."""

    by_bands: dict[int, list[Path]] = field(default_factory=dict)
    """Pictures by their number of bands, transparency not counted, ascending."""
    deep: list[Path] = field(default_factory=list)
    """Pictures of more than 8 bits."""
    fewest: tuple[int, Path] = (MOST, Path())
    """Least number of bands, transparency counted, and a picture that has no more."""

    def __str__(self) -> str:
        return "; ".join(
            f"{len(paths)} with {bands} band{'s' * (bands > 1)}, such as {paths[0].name}"
            for bands, paths in self.by_bands.items()
        )


def survey(files: Sequence[Path]) -> Survey:
    """Read the headers of pictures, and their fourth channels; unreadable ones do not count."""
    result = Survey()
    for path in tqdm(files, desc="bands", leave=False, disable=None):
        try:
            with PictureFile(path) as picture:
                visible = picture.file.bands
                result.fewest = min(result.fewest, (visible, path))
                if visible in (2, 4):
                    visible -= picture.has_alpha()
                if picture.file.deep:
                    result.deep.append(path)
        except UserError:
            continue
        # A grey picture is read as three equal bands.
        result.by_bands.setdefault(3 if visible == 1 else visible, []).append(path)
    result.by_bands = dict(sorted(result.by_bands.items()))
    return result


def choose(seen: Survey, words: Sequence[str]) -> tuple[int, ...]:
    """Numbers of the bands to read; empty for grey or R, G, B.

    Raises:
        UserError: `words` are no numbers, or the pictures have other bands.
    """
    if not words:
        for bands, paths in seen.by_bands.items():
            if bands != 3:
                count = len(paths)
                like = f"for {count} pictures bands must be chosen: " if count > 1 else ""
                raise UserError(like + which_bands(paths[0], bands))
        return ()
    if tuple(words) == ("all",):
        if len(seen.by_bands) > 1:
            raise UserError(f"--bands all needs pictures of as many bands, but there are {seen}")
        most = max(seen.by_bands, default=3)
        return () if most == 3 else Bands(tuple(range(1, most + 1))).index
    if not all(word.isascii() and word.isdecimal() for word in words):
        raise UserError(f"--bands {' '.join(words)}: give numbers from 1, or all")
    index = Bands(tuple(map(int, words))).index
    bands, path = seen.fewest
    if max(index) > bands:
        raise UserError(f"--bands {' '.join(words)}: {path} has {bands} bands. There are {seen}")
    return () if index == (1, 2, 3) and set(seen.by_bands) == {3} else index


def measure(files: Sequence[Path], words: Sequence[str] = ()) -> tuple[Bands, list[str]]:
    """Settle how the pictures of a data set are read; `words` are numbers from 1, `all`, or none.

    Returns:
        The bands, with the range of values where pictures have more than 8 bits, and mean and
        deviation where there are more than three; and sentences to print.

    Raises:
        UserError: the bands are not in all pictures, or have to be chosen.
    """
    seen = survey(files)
    bands = Bands(choose(seen, words))
    notes = []
    if bands.index:
        notes.append(f"channels are the bands {' '.join(map(str, bands.index))} of each picture.")
    if seen.deep:
        values = sample(seen.deep, bands)
        # The colours of a photograph keep their balance; bands of a sensor have ranges each.
        low, high = np.percentile(values, SHARES, axis=0 if bands.index else None)
        low, high = (tuple(map(float, np.atleast_1d(side))) for side in (low, high))
        bands = replace(bands, low=low, high=tuple(max(b, a + 1e-6) for a, b in zip(low, high)))
        ranges = ", ".join(f"{a:g} to {b:g}" for a, b in bands.ranges)
        notes.append(
            f"{len(seen.deep)} of {len(files)} pictures have more than 8 bits a value: {ranges} "
            f"({SHARES[0]:g} to {SHARES[1]:g} % of their pixels) become 0 to 255."
        )
        if len(seen.deep) < len(files):
            notes.append("the pictures of 8 bits among them are read as they are.")
    if bands.channels > 3:
        values = sample(files, bands, scaled=True)
        mean, deviation = values.mean(0), np.maximum(values.std(0), 1)
        mean, deviation = (tuple(row.round(3).tolist()) for row in (mean, deviation))
        bands = replace(bands, mean=mean, deviation=deviation)
    return bands, notes


def sample(files: Sequence[Path], bands: Bands, scaled: bool = False) -> np.ndarray:
    """Values of pixels all over the readable pictures, float64 (pixels, channels).

    Raises:
        UserError: no picture can be read.
    """
    files = files[:: -(-len(files) // MOST_FILES)]
    each = max(1, MOST_PIXELS // len(files))
    rows, fault = [], None
    for path in tqdm(files, desc="values", leave=False, disable=None):
        try:
            with PictureFile(path, bands) as picture:
                values = picture.values(scaled)
        except UserError as error:
            fault = error
            continue
        rows.append(values[:: -(-len(values) // each)].astype(np.float64))
    if not rows or not sum(map(len, rows)):
        raise fault or UserError(f"{files[0]} and the others hold no measured pixel")
    return np.concatenate(rows)


@dataclass(frozen=True)
class Arguments:
    """Choose the bands of a data set's pictures, and measure the range of their values."""

    dataset: Annotated[Path, tyro.conf.Positional]
    """Folder in VOC layout; its bands.json is written."""
    bands: tuple[str, ...] = ()
    """Numbers of bands from 1: three, one, or more; the first three are shown. all: every band.
    Default: grey, or R, G, B."""


def main(arguments: Arguments) -> None:
    """Write bands.json, and say what is in it."""
    spec = resolve(str(arguments.dataset))
    folders = [spec.root / name for name in spec.image]
    files = [path for folder in folders for path in sorted(folder.iterdir()) if is_picture(path)]
    bands, notes = measure(files, arguments.bands)
    write_bands(spec.root / BANDS_FILE, bands)
    last = f"{spec.root / BANDS_FILE}: {bands.channels} channels of {len(files)} pictures"
    print(*notes, last, sep="\n")


if __name__ == "__main__":
    with entry():
        main(tyro.cli(Arguments, description=Arguments.__doc__))
