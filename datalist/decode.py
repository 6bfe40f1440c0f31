"""Opening and decoding the files of pictures other than TIFF, with every damage named."""

import os
import re
import zlib
from functools import cache
from pathlib import Path

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


def is_deep_png(path: Path) -> bool:
    """Whether a file is a PNG of 16 bits a value."""
    with open(path, "rb") as file:
        head = file.read(25)
    return head[:4] == b"\x89PNG" and head[24:] == b"\x10"


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
            checksum = int.from_bytes(content[end : end + 4], "big")
            if zlib.crc32(content[start + 4 : end]) != checksum:
                raise UserError(f"{path} is damaged: copy or download it again")
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
    try:
        import pillow_heif
    except ImportError:
        pass
    else:
        pillow_heif.register_heif_opener()
    Image.MAX_IMAGE_PIXELS = None  # `opened` has a limit of its own; Pillow's would print a warning
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def decode_jpeg(content: bytes, part: int, path: Path, colours: str = "RGB") -> np.ndarray:
    """Decode a JPEG, uint8 (H, W, 3), or (H, W, 4) for `colours` CMYK, at 1 / `part` of its sides.

    Raises:
        UserError: its data are damaged anywhere.
    """
    import simplejpeg

    for strict in (True, False):
        try:
            return simplejpeg.decode_jpeg(content, colours, min_factor=part, strict=strict)
        except ValueError as error:
            reason = str(error)
            if not strict or not (reason.startswith(HARMLESS) or _is_filling(content, reason)):
                break
        except (RuntimeError, MemoryError):
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
