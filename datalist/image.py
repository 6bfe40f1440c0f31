"""Reading images and masks from files, and writing masks, with the mistakes that files have."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from base import IGNORE, UserError
from datalist.archive import replacing
from datalist.spec import palette

PIXEL_LIMIT = 1 << 26
"""Pixels of one image (200 MB decoded): more is taken for an attack or a mistake."""
FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
ORIENTATION = 0x0112
"""EXIF tag of how the camera was held."""
TURNS = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image[::-1].swapaxes(0, 1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image.swapaxes(0, 1)[::-1],
}
"""EXIF orientation -> what shows the stored pixels upright."""


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image as it is seen, from the head of its file.

    Errors: UserError where it is no image.
    """
    with _opened(path) as image:
        width, height = image.size
        turned = _orientation(image) >= 5
    return (width, height) if turned else (height, width)


def read_image(path: Path) -> np.ndarray:
    """Decode an image.

    Grey images get three equal channels, transparency is dropped, 16 bits become 8. A camera's
    orientation mark (EXIF) is obeyed, so that height and width are those that a person sees.

    Returns:
        RGB uint8 (H, W, 3).

    Errors: UserError where the file is missing, no image, cut off, or too large.
    """
    with _opened(path) as image:
        kind, orientation = image.format, _orientation(image)
    data = np.fromfile(path, np.uint8)
    # The decoders fill up what is missing with grey and only print a line.
    _check_whole(data.tobytes(), kind, path)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None or image.ndim != 3 or image.dtype != np.uint8:
        raise UserError(f"{path} is not a readable image.")
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    turn = TURNS.get(orientation)
    return np.ascontiguousarray(turn(image)) if turn else image


def read_mask(path: Path, num_classes: int | None = None) -> np.ndarray:
    """Decode a mask: a PNG of palette or grey values that are class indices.

    Args:
        path: the file.
        num_classes: where given, values must be below it, or 255.

    Returns:
        uint8 (H, W), 255 = ignore.

    Errors: UserError where the file is missing, cut off, a colour picture, or out of range.
    """
    with _opened(path) as image:
        if image.mode not in ("P", "L", "1"):
            raise UserError(
                f"{path} is a picture of mode {image.mode}: a mask is a palette or grey PNG "
                "whose values are class indices."
            )
        _check_whole(Path(path).read_bytes(), image.format, path)
        try:
            # Mode 1 has only the values 0 and 1, which Pillow would stretch to 255.
            mask = np.array(image).astype(np.uint8)
        except (OSError, SyntaxError, ValueError, EOFError, MemoryError):
            raise UserError(f"{path} is cut off or damaged: copy or make it again.") from None
    if num_classes is not None:
        check_mask(mask, num_classes, path)
    return mask


def check_mask(mask: np.ndarray, num_classes: int, path: Path) -> None:
    """Raise UserError where a mask has values from num_classes to 254."""
    wrong = mask[(mask >= num_classes) & (mask != IGNORE)]
    if wrong.size:
        raise UserError(
            f"{path} holds the value {wrong[0]}, but classes go from 0 to {num_classes - 1} "
            f"({IGNORE} = ignore)."
        )


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write class indices as a palette PNG in VOC colours, whole or not at all.

    Args:
        path: the file.
        mask: uint8 (H, W), 255 = ignore.
    """
    picture = Image.fromarray(np.ascontiguousarray(mask, np.uint8), "L")
    picture.putpalette(palette(256).tobytes())
    with replacing(path) as part:
        # Runs of one value are what a mask is made of: half the time of zlib's default.
        picture.save(part, "PNG", compress_type=zlib.Z_RLE)


def _opened(path: Path) -> Image.Image:
    try:
        image = Image.open(path, formats=FORMATS)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except Image.DecompressionBombError:
        raise UserError(
            f"{path} has more than {PIXEL_LIMIT >> 20} million pixels: scale it down."
        ) from None
    except Exception as error:
        # Damaged heads raise a dozen types in Pillow's plugins, struct.error among them.
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"cannot read {path}: {os.strerror(error.errno)}.") from None
        raise UserError(f"{path} is not a readable image (JPEG, PNG, BMP or WebP).") from None
    if image.width * image.height > PIXEL_LIMIT:
        image.close()
        raise UserError(f"{path} has more than {PIXEL_LIMIT >> 20} million pixels: scale it down.")
    return image


def _check_whole(content: bytes, kind: str | None, path: Path) -> None:
    if kind in ("JPEG", "MPO"):
        # The end mark must follow the last scan: a thumbnail in the head has both marks too.
        if content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"):
            raise UserError(f"{path} is cut off: copy or download it again.")
    elif kind == "PNG":
        place, name = len(b"\x89PNG\r\n\x1a\n"), b""
        while name != b"IEND":
            length = int.from_bytes(content[place : place + 4], "big")
            name, end = content[place + 4 : place + 8], place + 8 + length
            if end + 4 > len(content):
                raise UserError(f"{path} is cut off: copy or download it again.")
            if zlib.crc32(content[place + 4 : end]) != int.from_bytes(
                content[end : end + 4], "big"
            ):
                raise UserError(f"{path} is damaged: copy or download it again.")
            place = end + 4


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1  # a damaged EXIF block does not hinder the pixels
    return value if value in TURNS else 1
