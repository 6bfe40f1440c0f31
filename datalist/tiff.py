"""TIFF of any depth and number of bands, read in windows.

This file needs NumPy and tifffile alone: export.py writes it beside predict.py.
"""

import logging
import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

try:
    from base import UserError
except ImportError:  # beside predict.py
    UserError = ValueError  # type: ignore[misc, assignment]

LARGEST = 1 << 34
"""Pixels that a file may claim to have."""
LARGEST_BLOCK = 1 << 28
"""Pixels of one strip or tile, which is decoded as a whole."""
KEPT = 1 << 27
"""Bytes of decoded strips and tiles that are kept, as windows share them."""
SAMPLE = 256
"""Side of the parts that say what values mean."""
TRANSPARENT = 0.8
"""Share of the pixels that are clear or opaque, from which on a channel is transparency."""
KINDS = ("MINISBLACK", "MINISWHITE", "RGB", "PALETTE", "SEPARATED", "YCBCR", "MASK")
"""Meanings of values that are read."""
TURNS = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image[::-1].swapaxes(0, 1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image.swapaxes(0, 1)[::-1],
}
"""EXIF orientation, of a picture of any format -> what shows the stored pixels upright."""


class Tiff:
    """An open TIFF: the bands of its first image, pages of one size counted as bands.

    Attributes:
        size: (height, width) as stored.
        bands: number of bands.
        alpha: whether the last band is called transparency; None where the file does not say.
        deep: whether values have more than 8 bits.
        orientation: 1 to 8, as EXIF has it.
        nodata: value of pixels that were not measured; None where there is none.

    Raises:
        UserError: a file that is cut off, damaged, or of a kind that is not read.
    """

    def __init__(self, path: Path):
        import tifffile

        logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # damage ends in a UserError
        self.path = path
        try:
            self.file = tifffile.TiffFile(path)
        except FileNotFoundError:
            raise UserError(f"{path} does not exist") from None
        except Exception as error:
            raise self._damaged(error) from None
        try:
            self._describe()
        except UserError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise self._damaged(error) from None

    def _describe(self) -> None:
        len(self.file.pages)  # finds the end of the chain, in which `series` can go round for ever
        series = self.file.series[0]
        self.pages = list(series.pages)
        key = self.key = self.pages[0].keyframe
        if any(page is None for page in self.pages):
            raise UserError(f"{self.path} is a stack of pages in one block: save each as a file")
        self.size = (int(key.imagelength), int(key.imagewidth))
        self.kind = getattr(key.photometric, "name", str(key.photometric))
        self.samples = int(key.samplesperpixel)
        self.planes = self.samples if key.planarconfig == 2 else 1
        rows = (min(int(key.rowsperstrip), self.size[0]), self.size[1])
        self.block = (int(key.tilelength), int(key.tilewidth)) if key.is_tiled else rows
        packed = getattr(key.compression, "name", "")
        refusals = {
            f"holds {self.kind} values of {key.bitspersample} bits, which are not read: save it as "
            "grey or RGB": self.kind not in KINDS
            or key.dtype is None
            or key.dtype.kind not in "biuf",
            "holds YCbCr without JPEG: save it as RGB": self.kind == "YCBCR"
            and packed not in ("JPEG", "OJPEG"),
            "is not a picture of rows and columns": key.imagedepth > 1 or min(self.size) < 1,
            f"has more than {LARGEST >> 20} million pixels": math.prod(self.size) > LARGEST,
            f"is stored in one block of {math.prod(self.block) >> 20} million pixels: save it in "
            "tiles, such as with gdal_translate -co TILED=YES": min(self.block) < 1
            or math.prod(self.block) > LARGEST_BLOCK,
        }
        for reason, applies in refusals.items():
            if applies:
                raise UserError(f"{self.path} {reason}")
        self.grid = tuple(-(-side // step) for side, step in zip(self.size, self.block))
        whole = self.file.filehandle.size
        for page in self.pages:
            ends = list(map(sum, zip(page.dataoffsets, page.databytecounts)))
            complete = len(page.dataoffsets) == len(page.databytecounts) == len(ends)
            if len(ends) < self.planes * math.prod(self.grid) or not complete or max(ends) > whole:
                raise UserError(f"{self.path} is cut off: copy or download it again")
        *_, extra = (None, *map(int, key.extrasamples))
        self.alpha: bool | None = extra in (1, 2)
        if extra == 0 and self.samples == 4 and len(self.pages) == 1:
            self.alpha = None
        self.bands = len(self.pages) * self.samples
        if self.kind == "PALETTE" or (self.kind == "SEPARATED" and self.samples == 4):
            self.bands, self.alpha = 3, False
            if key.dtype != np.uint8:
                raise UserError(f"{self.path}: save it as grey or RGB")
        tag = key.tags.get(274)
        self.orientation = int(tag.value) if tag is not None and 1 <= int(tag.value) <= 8 else 1
        self.nodata = _number(key.tags.get(42113))
        self.deep = key.dtype.itemsize > 1
        self.kept: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self.mapped = key.is_memmappable and all(page.is_contiguous for page in self.pages)

    def sample(self) -> np.ndarray:
        """Parts all over the image, (1, pixels, bands)."""
        height, width = (min(SAMPLE, side) for side in self.size)
        rest = (max(0, side - SAMPLE) for side in self.size)
        rows, columns = (sorted({0, most // 2, most}) for most in rest)
        parts = [self.read(top, left, height, width) for top in rows for left in columns]
        return np.concatenate([part.reshape(1, -1, part.shape[2]) for part in parts], 1)

    def read(
        self, top: int = 0, left: int = 0, height: int | None = None, width: int | None = None
    ) -> np.ndarray:
        """Read a window of all bands; without arguments, the whole image.

        Returns:
            (height, width, bands), of the file's type; bool of 1 bit.

        Raises:
            UserError: it is damaged.
        """
        height = self.size[0] - top if height is None else height
        width = self.size[1] - left if width is None else width
        box = (top, left, min(top + height, self.size[0]), min(left + width, self.size[1]))
        try:
            parts = [self._page(number, page, box) for number, page in enumerate(self.pages)]
            return self._shown(np.concatenate(parts, 2) if len(parts) > 1 else parts[0])
        except UserError:
            raise
        except MemoryError:
            raise UserError(f"{self.path} takes more memory than there is") from None
        except Exception as error:
            raise self._damaged(error) from None

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def __enter__(self) -> "Tiff":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _page(self, number: int, page: Any, box: tuple[int, int, int, int]) -> np.ndarray:
        top, left, bottom, right = box
        if self.mapped:
            shape = (self.planes, *self.size, self.samples // self.planes)
            dtype = self.key.dtype.newbyteorder(self.file.byteorder)
            mapped = np.memmap(self.path, dtype, "r", page.dataoffsets[0], shape)
            window = mapped[:, top:bottom, left:right]
            window = window[..., 0].transpose(1, 2, 0) if self.planes > 1 else window[0]
            return window.astype(self.key.dtype)
        out = np.zeros((bottom - top, right - left, self.samples), self.key.dtype)
        if self.nodata is not None and self.key.dtype.kind == "f":
            out[...] = self.nodata
        for row in range(top // self.block[0], -(-bottom // self.block[0])):
            for column in range(left // self.block[1], -(-right // self.block[1])):
                y, x = row * self.block[0], column * self.block[1]
                for plane in range(self.planes):
                    index = (plane * self.grid[0] + row) * self.grid[1] + column
                    block = self._block(number, page, index)
                    if block is None:  # left out of the file: nothing was measured
                        continue
                    block = block[max(top - y, 0) : bottom - y, max(left - x, 0) : right - x]
                    y0, x0 = max(y - top, 0), max(x - left, 0)
                    bands = slice(plane, plane + 1) if self.planes > 1 else slice(None)
                    out[y0 : y0 + block.shape[0], x0 : x0 + block.shape[1], bands] = block
        return out

    def _block(self, number: int, page: Any, index: int) -> np.ndarray | None:
        """One strip or tile, (h, w, samples); decoded ones are kept for the next window."""
        if (block := self.kept.get((number, index))) is not None:
            self.kept.move_to_end((number, index))
            return block
        if not page.databytecounts[index]:
            return None
        handle = self.file.filehandle
        handle.seek(page.dataoffsets[index])
        data = handle.read(page.databytecounts[index])
        options = {"jpegtables": page.jpegtables} if page.jpegtables is not None else {}
        if page.jpegheader is not None:
            options["jpegheader"] = page.jpegheader
        decoded, _, shape = self.key.decode(data, index, **options)
        if decoded is None:
            return None
        block = np.asarray(decoded)[0][: shape[1], : shape[2]]
        self.kept[number, index] = block
        while sum(part.nbytes for part in self.kept.values()) > KEPT and len(self.kept) > 1:
            self.kept.popitem(last=False)
        return block

    def _shown(self, pixels: np.ndarray) -> np.ndarray:
        """Values whose meaning is brightness: palettes, CMYK and inverted greys undone."""
        most = (1 << self.key.bitspersample) - 1
        if self.kind == "PALETTE":
            colours = np.asarray(self.key.colormap)
            colours = (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
            return colours[:, pixels[..., 0]].transpose(1, 2, 0)
        if self.kind == "SEPARATED" and self.samples == 4:
            ink = 255 - pixels.astype(np.uint16)
            return (ink[..., :3] * ink[..., 3:] // 255).astype(np.uint8)
        if self.key.bitspersample == 1:
            pixels = pixels.astype(bool)
        if self.kind == "MINISWHITE":
            if pixels.dtype == bool:
                return ~pixels
            return (most - pixels).astype(pixels.dtype) if pixels.dtype.kind == "u" else -pixels
        if pixels.dtype == np.uint8 and 1 < self.key.bitspersample < 8:
            return (pixels.astype(np.uint16) * 255 // most).astype(np.uint8)
        return pixels

    def _damaged(self, error: Exception) -> UserError:
        if isinstance(error, ImportError):
            return UserError(f"{self.path} needs a package: pip install {error.name}")
        reason = str(error).partition("\n")[0][:80] or type(error).__name__
        return UserError(f"{self.path} is not a readable TIFF, cut off or damaged ({reason})")


def is_transparency(channel: np.ndarray) -> bool:
    """Whether a fourth channel (H, W) is transparency: one value, or clear and opaque pixels."""
    if channel.size == 0 or channel.min() == channel.max():
        return True
    most = np.iinfo(channel.dtype).max if channel.dtype.kind in "iu" else 1
    return bool(((channel == 0) | (channel == most)).mean() >= TRANSPARENT)


def _number(tag: Any) -> float | None:
    """Number in the text of a tag; None where there is none."""
    try:
        return float(str(tag.value).strip("\x00 ")) if tag is not None else None
    except ValueError:
        return None
