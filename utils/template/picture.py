"""Pictures as predict.py reads them. Needs NumPy, Pillow and the file tiff.py beside this one (for
TIFF also tifffile, imagecodecs; for PNG of 16 bits in colour opencv-python-headless)."""

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from tiff import TURNS, Tiff, is_transparency

try:
    import cv2
except ImportError:
    cv2 = None

PIXELS_AT_ONCE, PIXELS_AT_ALL = 1 << 26, 1 << 28
Image.MAX_IMAGE_PIXELS = None  # `Picture` has a limit of its own


class Picture:
    """A picture as a person sees it, uint8 (H, W, channels); of a TIFF, rows are read alone.

    Args:
        path: the file.
        bands: which bands become channels, and which values become 0 and 255 where there are more
            than 8 bits.

    Attributes:
        size: its own (height, width).
    """

    def __init__(self, path: Path, bands: dict):
        if not path.is_file():
            raise ValueError("is not a file")
        self.path, self.bands, self.ranges = path, bands, list(zip(bands["low"], bands["high"]))
        self.whole = self.tiff = None
        with open(path, "rb") as file:
            self.head = file.read(26)
        if self.head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            self.tiff = Tiff(path)
            if self.tiff.alpha is None:
                self.tiff.alpha = is_transparency(self.tiff.sample()[..., -1])
            self.size, orientation = self.tiff.size, self.tiff.orientation
        else:
            with Image.open(path) as image:
                self.size = image.height, image.width
                orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        self.in_rows = self.tiff is not None and orientation not in TURNS
        self.turn = TURNS.get(orientation, lambda pixels: pixels)
        self.size = self.size[::-1] if 5 <= orientation <= 8 else self.size
        if self.size[0] * self.size[1] > PIXELS_AT_ALL and not self.in_rows:
            raise ValueError(f"has more than {PIXELS_AT_ALL >> 20} million pixels")

    def rows(self, first: int, last: int) -> np.ndarray:
        """Some rows at their own size."""
        last = min(last, self.size[0])
        if self.in_rows:
            return self.channels(self.tiff.read(first, 0, last - first), self.tiff.alpha)
        if self.whole is None:
            self.whole = self.decoded(False)
        return self.whole[first:last]

    def shrunk(self, longest: int) -> np.ndarray:
        """All of it, its longer side at most `longest`."""
        height, width = self.size
        if self.in_rows and height * width > PIXELS_AT_ONCE:
            step = max(1, max(height, width) // longest)
            count = step * max(1, PIXELS_AT_ONCE // 8 // (step * width))
            strips = [reduce(self.rows(top, top + count), step) for top in range(0, height, count)]
            pixels = np.concatenate(strips)
        else:
            pixels = self.decoded(height * width > PIXELS_AT_ONCE)
        shrink = longest / max(pixels.shape[:2])
        if shrink < 1:
            pixels = smaller(pixels, [max(1, round(side * shrink)) for side in pixels.shape[:2]])
        return np.ascontiguousarray(pixels)

    def decoded(self, half: bool) -> np.ndarray:
        """All of it, from the file; of a JPEG maybe at half its size."""
        if self.tiff is not None:
            return self.turn(self.channels(self.tiff.read(), self.tiff.alpha))
        with Image.open(self.path) as image:
            if half:
                image.draft("RGB", (image.width // 2, image.height // 2))
            if self.head[:4] == b"\x89PNG" and self.head[24] == 16 and self.head[25] in (2, 4, 6):
                pixels = read_deep(self.path)  # Pillow would drop half of the bits
            elif image.mode.startswith("I"):
                pixels = np.asarray(image).astype(np.uint16)[..., None]
            else:
                pixels = np.asarray(image if image.mode == "RGBA" else image.convert("RGB"))
        return self.turn(self.channels(pixels, pixels.shape[2] in (2, 4)))

    def channels(self, pixels: np.ndarray, alpha: bool) -> np.ndarray:
        """The network's channels of all bands; those of 8 bits keep their values."""
        count = pixels.shape[2]
        chosen = [band - 1 for band in self.bands["index"]] or list(range(count - alpha))
        if not self.bands["index"] and len(chosen) not in (1, 3):
            raise ValueError(f"has {len(chosen)} bands, but the network learned R, G and B")
        if max(chosen) >= count:
            raise ValueError(f"has {count} bands, but band {max(chosen) + 1} is needed")
        pixels = pixels[..., chosen * 3 if len(chosen) == 1 else chosen]
        if pixels.dtype == bool:
            return pixels.astype(np.uint8) * np.uint8(255)
        if pixels.dtype == np.uint8:
            return pixels
        if not self.ranges:
            sample = pixels if self.tiff is None else self.tiff.sample()[..., chosen]
            if pixels.dtype != np.uint16 or sample.max() < 1 << 15:
                raise ValueError("has more than 8 bits, but the network learned 8 bits: convert it")
            self.ranges = [(0.0, 65535.0)]
        out = np.empty(pixels.shape, np.uint8)
        for k, (low, high) in enumerate(self.ranges * (pixels.shape[2] // len(self.ranges))):
            values = (pixels[..., k].astype(np.float64) - low) * (255 / (high - low))
            out[..., k] = np.rint(np.nan_to_num(values, nan=0.0).clip(0, 255)).astype(np.uint8)
            if self.tiff is not None and self.tiff.nodata is not None:
                out[..., k][pixels[..., k] == self.tiff.nodata] = 0
        return out


def read_deep(path: Path) -> np.ndarray:
    """Bands of a PNG of 16 bits in colour, uint16 (H, W, 3 or 4)."""
    if cv2 is None:
        raise ValueError("has 16 bits in colour: pip install opencv-python-headless")
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), flags)
    if pixels is None:
        raise ValueError("is damaged")
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


def reduce(pixels: np.ndarray, step: int) -> np.ndarray:
    """A picture (H, W, channels) of which `step` pixels a side become one."""
    size = [-(-side // step) for side in pixels.shape[:2]]
    return smaller(pixels, size) if step > 1 else pixels


def smaller(pixels: np.ndarray, size: list[int]) -> np.ndarray:
    """A picture (H, W, channels) at a smaller (height, width)."""
    parts = [average(average(part, size[0]).T, size[1]).T for part in np.moveaxis(pixels, 2, 0)]
    return np.rint(np.dstack(parts)).astype(np.uint8)


def average(values: np.ndarray, rows: int) -> np.ndarray:
    """Shrink an array (H, W) to (rows, W): means over H / rows rows, parts of rows counted so."""
    ends = np.arange(rows + 1) * (len(values) / rows)
    whole = np.minimum(ends.astype(int), len(values) - 1)
    rest = (ends - whole)[:, None] * values[whole]
    rest[-1] = 0  # the last sum reaches the end
    sums = np.add.reduceat(values, whole[:-1], axis=0, dtype=float)
    return (sums - rest[:-1] + rest[1:]) * (rows / len(values))
