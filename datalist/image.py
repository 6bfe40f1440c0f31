"""Reading images and masks, also from faulty files, and writing masks."""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Protocol

import numpy as np

from base import IGNORE, UserError
from base.file import replacing
from datalist.augment import shrink
from datalist.bands import Bands, default_range
from datalist.decode import WholeFile, check_whole, is_tiff, opened
from datalist.palette import palette
from datalist.tiff import TURNS, Tiff, is_transparency

PIXEL_LIMIT = 1 << 26
"""Pixels of one decoded image (200 MB); larger pictures are decoded at a part of their size."""
LARGEST_MASK = 1 << 30
"""Pixels of a mask that is read; those of large TIFFs have more than other pictures may have."""
STRIP = 1 << 23
"""Pixels that are read, shrunk or written at once."""
RGB = Bands()
"""Grey or R, G, B of 8 bits."""


class Rows(Protocol):
    """A mask whose rows can be read in parts, such as an array."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: slice, /) -> np.ndarray: ...


def median_size(paths: Iterable[Path]) -> tuple[float, float]:
    """Medians of the heights and of the widths of images, from the headers of their files."""
    height, width = (median(side) for side in zip(*map(image_size, paths)))
    return height, width


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image as it is seen, from the header of its file."""
    with PictureFile(path) as picture:
        return picture.size


def read_image(path: Path, bands: Bands = RGB) -> np.ndarray:
    """Decode an image; `read_sized` without the size."""
    return read_sized(path, bands)[0]


def read_shown(path: Path, bands: Bands = RGB) -> np.ndarray:
    """Decode an image; its first three channels, uint8 (H, W, 3), which people and CRF see."""
    return np.ascontiguousarray(read_image(path, bands)[..., :3])


def read_sized(path: Path, bands: Bands = RGB) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode an image.

    Grey images get three equal channels, transparency is dropped, and values of more than 8 bits
    are scaled as `bands` says. The EXIF orientation is obeyed, so that height and width are those
    that a person sees. An image of more than `PIXEL_LIMIT` pixels is decoded at half its height and
    width, a TIFF at the part that is small enough.

    Returns:
        uint8 (H, W, channels), R, G, B without `bands`, and the (height, width) of the picture in
        its file.

    Raises:
        UserError: the file is missing, no image, cut off, too large, or has other bands.
    """
    with PictureFile(path, bands) as picture:
        return picture.reduced(), picture.size


class PictureFile:
    """An open picture, read whole or in windows; the only reader of pictures.

    Args:
        bands: which bands become channels, and how their values become 0..255.

    Attributes:
        size: (height, width) as it is seen, in pixels of the file.
        file: what reads it.

    Raises:
        UserError: the file is missing, no image, too large, or has other bands.
    """

    def __init__(self, path: Path, bands: Bands = RGB):
        self.path, self.bands = Path(path), bands
        self.tiff = is_tiff(self.path)
        self.file: Tiff | WholeFile = (Tiff if self.tiff else WholeFile)(self.path)
        self.turn = TURNS.get(self.file.orientation)
        self.windowed = self.tiff and self.turn is None
        """Whether windows are read without decoding all of the file."""
        self.size = self.file.size[::-1] if self.file.orientation >= 5 else self.file.size
        self._whole: np.ndarray | None = None
        self._values: np.ndarray | None = None

    def __enter__(self) -> "PictureFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def read(
        self, top: int = 0, left: int = 0, height: int | None = None, width: int | None = None
    ) -> np.ndarray:
        """Read a window in pixels of the file; without arguments, the whole picture.

        A TIFF is read in parts. Another file is decoded once, and kept as long as this is open.

        Returns:
            uint8 (height, width, channels), less where the window leaves the picture.

        Raises:
            UserError: the file is cut off or damaged, or has other bands.
        """
        bottom = self.size[0] if height is None else min(top + height, self.size[0])
        right = self.size[1] if width is None else min(left + width, self.size[1])
        if self.windowed:
            self._understand()
            return self._channels(self.file.read(top, left, bottom - top, right - left))
        if self._whole is None:
            self._whole = self._decoded(1)
        return self._whole[top:bottom, left:right]

    def stored(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Read a window inside the picture with the values of the file, without transparency.

        Returns:
            (height, width, bands) of the file's type; R, G, B where the decoder makes these.

        Raises:
            UserError: the file is cut off or damaged.
        """
        if self.windowed:
            self._find_alpha()
            pixels = self.file.read(top, left, height, width)
        else:
            if self._values is None:
                values = self.file.read()
                self._find_alpha(values)
                self._values = self.turn(values) if self.turn else values
            pixels = self._values[top : top + height, left : left + width]
        return pixels[..., :-1] if self.file.alpha else pixels

    def reduced(self) -> np.ndarray:
        """The whole picture, of at most `PIXEL_LIMIT` pixels: uint8 (H, W, channels)."""
        part = 1
        while self.size[0] * self.size[1] // part**2 > PIXEL_LIMIT:
            part += 1
        if not self.windowed or part == 1:
            return self._decoded(part if self.tiff else min(part, 2))
        self._understand()
        height, width = (-(-side // part) for side in self.size)
        rows = max(1, STRIP // (self.size[1] * part))
        out = np.empty((height, width, self.bands.channels), np.uint8)
        for top in range(0, height, rows):
            strip = self.read(top * part, 0, rows * part)
            out[top : top + rows] = shrink(strip, (min(rows, height - top), width))
        return out

    def has_alpha(self) -> bool:
        """Whether the last band is transparency, by what the file says or by its values."""
        self._find_alpha()
        return bool(self.file.alpha)

    def values(self, scaled: bool) -> np.ndarray:
        """Channels of measured pixels all over the picture, (pixels, channels); scaled: 0..255."""
        pixels, nodata = self._sample(), self.file.nodata
        self._find_alpha(pixels)
        chosen = self.bands.select(pixels, bool(self.file.alpha), self.path)
        chosen = chosen.reshape(-1, chosen.shape[2])
        measured = np.isfinite(chosen) & (True if nodata is None else chosen != nodata)
        chosen = chosen[measured.all(1)]
        return self.bands.scale(chosen[None], self.path)[0] if scaled else chosen

    def _decoded(self, part: int) -> np.ndarray:
        if self.tiff:
            self._understand()
        pixels = self.file.read() if self.tiff else self.file.read(part)
        self._find_alpha(pixels)
        image = self._channels(pixels)
        image = self.turn(image) if self.turn is not None else image
        least = tuple(-(-side // part) for side in self.size)
        if part > 1 and image.shape[0] > least[0]:  # a decoder that cannot shrink
            image = shrink(image, least)
        return np.ascontiguousarray(image)

    def _channels(self, pixels: np.ndarray) -> np.ndarray:
        chosen = self.bands.select(pixels, bool(self.file.alpha), self.path)
        return np.ascontiguousarray(self.bands.scale(chosen, self.path, self.file.nodata))

    def _find_alpha(self, pixels: np.ndarray | None = None) -> None:
        """Look at a last band of which the file does not say whether it is transparency."""
        if self.file.alpha is None:
            if pixels is None or self.tiff:
                pixels = self._sample()
            self.file.alpha = pixels.shape[2] != 3 and is_transparency(pixels[..., -1])

    def _understand(self) -> None:
        """Settle what the values of a TIFF mean, once for all windows."""
        self._find_alpha()
        if not self.bands.low and self.file.deep:
            chosen = self.bands.select(self._sample(), bool(self.file.alpha), self.path)
            low, high = default_range(chosen, self.path)
            self.bands = replace(self.bands, low=(low,), high=(high,))

    def _sample(self) -> np.ndarray:
        """Parts all over a TIFF, (n, w, bands); of another file, all of it."""
        return self.file.sample() if isinstance(self.file, Tiff) else self.file.read()


def read_mask(path: Path, num_classes: int | None = None) -> np.ndarray:
    """Decode a mask, uint8 (H, W): a PNG of palette or grey values that are class indices.

    Values must be below `num_classes`, where given, or 255 (ignore).

    Raises:
        UserError: the file is missing, cut off, a colour picture, or out of range.
    """
    with opened(path, LARGEST_MASK) as image:
        if image.mode not in ("P", "L", "1"):
            raise UserError(
                f"{path} is a picture of mode {image.mode}: a mask is a palette or grey PNG whose "
                "values are class indices. `python -m datalist.prepare.masks FOLDER DATASET` "
                "makes these from colours"
            )
        check_whole(Path(path).read_bytes(), image.format, path)
        try:
            # Mode 1 has only the values 0 and 1, which Pillow would stretch to 255.
            mask = np.array(image).astype(np.uint8)
        except (OSError, SyntaxError, ValueError, EOFError, MemoryError):
            raise UserError(f"{path} is cut off or damaged: copy or make it again") from None
    if num_classes is not None:
        check_mask(mask, num_classes, path)
    return mask


def mask_colours(path: Path) -> dict[int, tuple[int, int, int]]:
    """R, G, B of each value in the palette of a mask; empty where it has none."""
    with opened(path) as image:
        colours = image.getpalette("RGB") if image.mode == "P" else None
    return {k: tuple(row) for k, row in enumerate(np.reshape(colours or [], (-1, 3)).tolist())}


def check_mask(mask: np.ndarray, num_classes: int, path: Path) -> None:
    """Raise UserError where a mask has values from num_classes to 254."""
    wrong = mask[(mask >= num_classes) & (mask != IGNORE)]
    if wrong.size:
        raise UserError(
            f"{path} holds the value {wrong[0]}, but classes go from 0 to {num_classes - 1} "
            f"({IGNORE} = ignore)"
        )


def write_mask(path: Path, mask: Rows) -> None:
    """Write class indices, uint8 (H, W), as a palette PNG in VOC colours, whole or not at all."""
    height, width = mask.shape
    header = struct.pack(">2I5B", width, height, 8, 3, 0, 0, 0)  # 8 bits, palette
    # Masks consist of runs of one value: this takes half the time of zlib's default.
    packer = zlib.compressobj(strategy=zlib.Z_RLE)
    with replacing(path) as part, open(part, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header))
        file.write(_chunk(b"PLTE", palette(256).tobytes()))
        for rows in strips(mask):
            unfiltered = np.zeros((len(rows), width + 1), np.uint8)
            unfiltered[:, 1:] = rows
            file.write(_chunk(b"IDAT", packer.compress(unfiltered.tobytes())))
        file.write(_chunk(b"IDAT", packer.flush()) + _chunk(b"IEND", b""))


def strips(mask: Rows) -> Iterator[np.ndarray]:
    """Rows of a mask from top to bottom, some million pixels at a time."""
    height, width = mask.shape
    count = 256 * max(1, STRIP // (256 * width))  # tiles of a GeoTIFF have 256 rows
    for top in range(0, height, count):
        yield mask[top : top + count]


def _chunk(name: bytes, content: bytes) -> bytes:
    """Part of a PNG."""
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)
