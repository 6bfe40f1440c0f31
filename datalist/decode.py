"""Opening and decoding the files of pictures other than TIFF, with every damage named."""

import os
import re
import zlib
from contextlib import suppress
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from base import UserError
from datalist.formats import what_to_do

LARGEST = 1 << 28
"""Pixels that a picture other than a TIFF may claim to have; more is an attack or a mistake."""
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "AVIF", "HEIF")
"""Formats whose headers Pillow reads; TIFF has a reader of its own."""
ORIENTATION = 0x0112
"""EXIF tag of how the camera was held."""
HARMLESS = ("Unknown Adobe", "Warning", "Invalid SOS parameters for", "Corrupt JPEG data: bad ICC")
"""Beginnings of what the JPEG decoder warns of though all pixels are right."""


def is_tiff(path: Path) -> bool:
    """Whether a file begins as a TIFF or BigTIFF does, whatever its name."""
    try:
        with open(path, "rb") as file:
            return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    except OSError:
        return False  # `opened` says what is wrong


def opened(path: Path, most: int = LARGEST) -> Image.Image:
    """Open a picture by its content and read its header.

    Raises:
        UserError: the file is missing, no picture, or claims too many pixels.
    """
    path = Path(path)
    try:
        image = Image.open(path, formats=decoders())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except Exception as error:
        # Damaged headers raise a dozen types in Pillow's plugins, struct.error among them.
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"cannot read {path}: {os.strerror(error.errno)}") from None
        advice = what_to_do(path, decoders())
        raise UserError(f"{path} is not a readable image{advice and ': '}{advice}") from None
    if image.width * image.height > most:
        image.close()
        raise UserError(
            f"{path} has more than {most >> 20} million pixels: scale it down, or save it as a "
            "tiled TIFF"
        )
    return image


def check_whole(content: bytes, file_format: str | None, path: Path) -> None:
    """Raise UserError where a JPEG or PNG ends early, or a PNG's checksums are wrong."""
    if file_format in ("JPEG", "MPO"):
        # The end marker must follow the last scan: a thumbnail in the header has both markers too.
        if content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"):
            raise UserError(f"{path} is cut off: copy or download it again")
    elif file_format == "PNG":
        start, name = len(b"\x89PNG\r\n\x1a\n"), b""
        while name != b"IEND":
            length = int.from_bytes(content[start : start + 4], "big")
            name, end = content[start + 4 : start + 8], start + 8 + length
            if end + 4 > len(content):
                raise UserError(f"{path} is cut off: copy or download it again")
            if zlib.crc32(content[start + 4 : end]).to_bytes(4, "big") != content[end : end + 4]:
                raise damaged(path)
            start = end + 4


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation of a picture, 1 to 8; 1 where there is none."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1  # the pixels can be read despite a damaged EXIF block
    return value if value in range(1, 9) else 1


@cache
def decoders() -> list[str]:
    """Formats that Pillow reads here: AVIF needs version 11.3, HEIC the package pillow-heif."""
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.MAX_IMAGE_PIXELS = None  # `opened` has a limit of its own; Pillow's would print a warning
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


class WholeFile:
    """An open picture that is not a TIFF; it has the members of `datalist.tiff.Tiff`.

    Raises:
        UserError: the file is missing, no picture, or claims too many pixels.
    """

    nodata = None

    def __init__(self, path: Path):
        self.path = path
        with opened(path) as image:
            self.format, self.mode = image.format, image.mode
            self.size, self.orientation = (image.height, image.width), orientation_of(image)
        self.bands = {"RGBA": 4, "LA": 2}.get(self.mode, 3)
        self.alpha: bool | None = False if self.bands == 3 else None

    @property
    def deep(self) -> bool:
        """Whether values have more than 8 bits."""
        with open(self.path, "rb") as file:
            head = file.read(25)
        return head[:4] == b"\x89PNG" and head[24:] == b"\x10"

    def close(self) -> None:
        """Nothing: the file is open only while it is read."""

    def read(self, part: int = 1) -> np.ndarray:
        """Decode the picture, at 1 / `part` of its sides where the decoder can.

        Returns:
            (H, W, bands) of 8 or 16 bits, R, G, B first unless there are two bands.

        Raises:
            UserError: it is cut off or damaged.
        """
        if self.format in ("AVIF", "HEIF"):
            with opened(self.path) as image:
                try:
                    return np.array(image if image.mode == "RGBA" else image.convert("RGB"))
                except Exception:
                    raise damaged(self.path) from None
        data = np.fromfile(self.path, np.uint8)
        # The decoders fill up what is missing with grey and only print a line.
        check_whole(data.tobytes(), self.format, self.path)
        if self.format in ("JPEG", "MPO") and self.mode in ("L", "RGB"):
            return decode_jpeg(data.tobytes(), part, self.path)
        if self.format in ("JPEG", "MPO") and self.mode == "CMYK":
            decode_jpeg(data.tobytes(), 8, self.path, "CMYK")  # OpenCV names no damage
        if self.mode in ("RGBA", "LA") or (self.format == "PNG" and data[24] == 16):
            flags = cv2.IMREAD_UNCHANGED
        else:
            flags = cv2.IMREAD_REDUCED_COLOR_2 if part > 1 else cv2.IMREAD_COLOR
        try:
            image = cv2.imdecode(data, flags | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error:
            image = None
        if image is None or image.dtype not in (np.uint8, np.uint16):
            raise UserError(f"{self.path} is not a readable image")
        if image.ndim == 2:
            return np.repeat(image[..., None], 3, 2)
        if image.shape[2] == 3:
            return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        pixels = cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)
        return pixels[..., [0, 3]] if self.mode == "LA" else pixels


def decode_jpeg(content: bytes, part: int, path: Path, colours: str = "RGB") -> np.ndarray:
    """Decode a JPEG at 1 / `part` of its sides, uint8 (H, W, 3), or (H, W, 4) for CMYK."""
    import simplejpeg

    for strict in (True, False):
        try:
            return simplejpeg.decode_jpeg(content, colours, min_factor=part, strict=strict)
        except (ValueError, RuntimeError, MemoryError) as error:
            reason = str(error) if isinstance(error, ValueError) else ""
            if not (reason.startswith(HARMLESS) or _is_filling(content, reason)):
                break
    raise damaged(path)


def _is_filling(content: bytes, reason: str) -> bool:
    """Whether what the decoder calls extraneous is filling that some cameras write."""
    match = re.match(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0x(\w\w)", reason)
    if match is None:
        return False
    count, marker = int(match[1]), bytes.fromhex(match[2])
    end = content.rfind(b"\xff\xd9")
    return count <= 2 or (marker == b"\xd9" and len(set(content[max(0, end - count) : end])) == 1)


def damaged(path: Path) -> UserError:
    """The refusal of a damaged file."""
    return UserError(f"{path} is damaged: copy or download it again")
