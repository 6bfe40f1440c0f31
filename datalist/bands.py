"""Which bands of a picture are the channels of the network, and how their values become 0..255."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from base import UserError
from base.file import write_text

BANDS_FILE = "bands.json"
"""Name of the file of a data set that `Bands` are stored in."""
MOST = 256
"""Bands that a picture may have."""


@dataclass(frozen=True)
class Bands:
    """How the bands of pictures become channels 0..255; the first three channels are shown.

    Args:
        index: numbers of the bands, from 1; three, or more, or one that is tripled. Empty: grey or
            R, G, B as the file says, and transparency is dropped.
        low, high: values that become 0 and 255 in pictures of more than 8 bits, one for all
            channels or one for each. Empty: not measured.
        mean, deviation: of each channel 0..255 over the pictures of the data set; needed where
            there are more than three.
    """

    index: tuple[int, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        index, mean, deviation = self.index, self.mean, self.deviation
        if len(index) == 2 or not all(1 <= band <= MOST for band in index):
            numbers = f"one, three or more numbers from 1 to {MOST}"
            raise UserError(f"bands {' '.join(map(str, index))} are not possible: give {numbers}")
        if len(self.low) != len(self.high) or len(self.low) not in (0, 1, self.channels):
            raise UserError("the ranges of values are not those of the bands")
        if not all(-math.inf < low < high < math.inf for low, high in self.ranges):
            raise UserError("a range of values is empty")
        if len(mean) != len(deviation) or len(mean) not in (0, len(index)):
            raise UserError("mean and deviation are not those of the bands")
        if not all(math.isfinite(m) and 0 < d < math.inf for m, d in zip(mean, deviation)):
            raise UserError("mean or deviation of a band is not a number")

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        return max(3, len(self.index))

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """Values that become 0 and 255, as they are stored."""
        return list(zip(self.low, self.high))

    def __str__(self) -> str:
        """In words, for people."""
        channels = f"bands {', '.join(map(str, self.index))}" if self.index else "grey, or R, G, B"
        ranges = ", ".join(f"{low:g} to {high:g}" for low, high in self.ranges)
        return f"pictures are read as {channels}" + f"; {ranges} become 0 to 255" * bool(ranges)

    def select(self, pixels: np.ndarray, alpha: bool, path: Path) -> np.ndarray:
        """Take the wanted bands, in their order.

        Args:
            pixels: (H, W, bands), any type; the result is (H, W, channels), of the same type.

        Raises:
            UserError: a band that the file has not, or bands that nobody chose.
        """
        count = pixels.shape[2]
        if self.index:
            if max(self.index) > count:
                raise UserError(
                    f"{path} has {count} band{'s' * (count > 1)}, but band {max(self.index)} was "
                    "chosen: choose others, or take this picture out"
                )
        elif count - alpha not in (1, 3):
            raise UserError(which_bands(path, count))
        chosen = [band - 1 for band in self.index] or list(range(count - alpha))
        if chosen == [0, 1, 2]:
            return pixels[..., :3]  # no copy
        return pixels[..., chosen * 3 if len(chosen) == 1 else chosen]

    def scale(self, pixels: np.ndarray, path: Path, nodata: float | None = None) -> np.ndarray:
        """Bring values to 0..255, uint8; 8 bits stay as they are.

        Args:
            nodata: value of pixels that were not measured; they and NaN become 0.

        Raises:
            UserError: no range of values is known.
        """
        if pixels.dtype == np.uint8:
            return pixels
        if pixels.dtype == bool:
            return pixels.astype(np.uint8) * np.uint8(255)
        ranges = self.ranges or [default_range(pixels, path)]
        ranges *= pixels.shape[2] // len(ranges)
        out = np.empty(pixels.shape, np.uint8)
        for channel, (low, high) in enumerate(ranges):
            values = pixels[..., channel]
            short = pixels.dtype == np.uint16
            scaled = _table(low, high)[values] if short else _stretched(values, low, high)
            if nodata is not None:
                scaled[values == nodata] = 0
            out[..., channel] = scaled
        return out


def default_range(pixels: np.ndarray, path: Path) -> tuple[float, float]:
    """Range of a picture of 16 bits that uses all of them."""
    what = f"numbers of type {pixels.dtype}"
    if pixels.dtype == np.uint16:
        bits = int(pixels.max(initial=0)).bit_length()
        if bits == 16:
            return 0.0, 65535.0
        what = f"{bits} of its 16 bits a channel"
    raise UserError(
        f"{path} uses {what}, and no range of values is stored. In a data set, run `python -m "
        "datalist.prepare.bands FOLDER`, which measures it; for a network that was trained on "
        "pictures of 8 bits, convert the picture to 8 bits"
    )


def which_bands(path: Path, count: int) -> str:
    """The question that a picture of some other number of bands leads to."""
    what = f"has {count} bands" if count != 4 else "has a fourth channel that is not transparency"
    return (
        f"{path} {what}: choose those to read with --bands, such as --bands 1 2 3 or --bands all "
        "(of `python -m datalist.prepare.arrange`, or `python -m datalist.prepare.bands FOLDER` "
        "for a data set that exists; a trained network takes the bands that it learned)"
    )


def read_bands(path: Path) -> Bands:
    """Read bands.json; `Bands()` where it does not exist."""
    if not path.is_file():
        return Bands()
    try:
        content = json.loads(path.read_bytes()[: 1 << 20])
    except (ValueError, RecursionError):
        command = "`python -m datalist.prepare.bands`"
        raise UserError(f"{path} is damaged: make it again with {command}") from None
    return from_stored(content, path)


def from_stored(content: Any, path: Path) -> Bands:
    """Bands from the plain values of a json or a checkpoint; `path` is named in errors."""
    if content is None:
        return Bands()
    names = {field.name for field in fields(Bands)}
    if not isinstance(content, Mapping) or set(content) != names:
        raise UserError(f"{path}: its bands are damaged")
    values: dict[str, tuple] = {}
    for name, row in content.items():
        kinds = (int,) if name == "index" else (int, float)
        plain = isinstance(row, list | tuple) and len(row) <= MOST
        if not plain or not all(type(number) in kinds for number in row):
            raise UserError(f"{path}: its bands are damaged ({name})")
        values[name] = tuple(row)
    try:
        return Bands(**values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def stored(bands: Bands) -> dict[str, tuple] | None:
    """Plain values of bands for a json or a checkpoint; None where there is nothing to say."""
    return None if bands == Bands() else asdict(bands)


def write_bands(path: Path, bands: Bands) -> None:
    """Write bands.json."""
    write_text(path, json.dumps(asdict(bands), indent=1) + "\n")


@lru_cache(maxsize=64)
def _table(low: float, high: float) -> np.ndarray:
    """0..255 for each value of 16 bits."""
    return _stretched(np.arange(1 << 16), low, high)


def _stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.rint(np.nan_to_num(scaled, nan=0.0).clip(0, 255)).astype(np.uint8)
