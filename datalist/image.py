"""Reading images and masks, also from faulty files, and writing masks."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from base import IGNORE, UserError
from base.file import replacing
from datalist.palette import palette

PIXEL_LIMIT = 1 << 26
"""Pixels of one decoded image (200 MB); larger pictures are decoded at half their size."""
LARGEST = 1 << 28
"""Pixels that a file may claim to have; more is an attack or a mistake."""
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
Image.MAX_IMAGE_PIXELS = (
    None  # `_opened` has a limit of its own, and Pillow's would print a warning
)


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image as it is seen, from the header of its file.

    Errors: UserError where it is no image.
    """
    with _opened(path) as image:
        width, height = image.size
        turned = _orientation(image) >= 5
    return (width, height) if turned else (height, width)


def read_image(path: Path) -> np.ndarray:
    """Decode an image; `read_sized` without the size."""
    return read_sized(path)[0]


def read_sized(path: Path) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode an image; this is the only reader of pictures.

    Grey images get three equal channels, transparency is dropped, of 16 bits the upper 8 are kept.
    The EXIF orientation is obeyed, so that height and width are those that a person sees. An image
    of more than `PIXEL_LIMIT` pixels is decoded at half its height and width.

    Returns:
        RGB uint8 (H, W, 3), and the (height, width) of the picture in its file.

    Errors: UserError where the file is missing, no image, cut off, or too large.
    """
    with _opened(path) as image:
        file_format, orientation, (width, height) = image.format, _orientation(image), image.size
    data = np.fromfile(path, np.uint8)
    # The decoders fill up what is missing with grey and only print a line.
    _check_whole(data.tobytes(), file_format, path)
    half = width * height > PIXEL_LIMIT
    flags = cv2.IMREAD_REDUCED_COLOR_2 if half else cv2.IMREAD_COLOR
    try:
        image = cv2.imdecode(data, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None or image.ndim != 3 or image.dtype != np.uint8:
        raise UserError(f"{path} is not a readable image.")
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    size = (width, height) if orientation >= 5 else (height, width)
    turn = TURNS.get(orientation)
    return np.ascontiguousarray(turn(image)) if turn else image, size


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
        # Masks consist of runs of one value: this takes half the time of zlib's default.
        picture.save(part, "PNG", compress_type=zlib.Z_RLE)


def _opened(path: Path) -> Image.Image:
    try:
        image = Image.open(path, formats=FORMATS)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except Exception as error:
        # Damaged headers raise a dozen types in Pillow's plugins, struct.error among them.
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"cannot read {path}: {os.strerror(error.errno)}.") from None
        raise UserError(f"{path} is not a readable image (JPEG, PNG, BMP or WebP).") from None
    if image.width * image.height > LARGEST:
        image.close()
        raise UserError(f"{path} has more than {LARGEST >> 20} million pixels: scale it down.")
    return image


def _check_whole(content: bytes, file_format: str | None, path: Path) -> None:
    if file_format in ("JPEG", "MPO"):
        # The end marker must follow the last scan: a thumbnail in the header has both markers too.
        if content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"):
            raise UserError(f"{path} is cut off: copy or download it again.")
    elif file_format == "PNG":
        start, name = len(b"\x89PNG\r\n\x1a\n"), b""
        while name != b"IEND":
            length = int.from_bytes(content[start : start + 4], "big")
            name, end = content[start + 4 : start + 8], start + 8 + length
            if end + 4 > len(content):
                raise UserError(f"{path} is cut off: copy or download it again.")
            checksum = int.from_bytes(content[end : end + 4], "big")
            if zlib.crc32(content[start + 4 : end]) != checksum:
                raise UserError(f"{path} is damaged: copy or download it again.")
            start = end + 4


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1  # the pixels can be read despite a damaged EXIF block
    return value if value in TURNS else 1
