"""Masks that people drew: exports of annotation tools, read into shapes and painted."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from base import UserError
from datalist.annotation import check_instances, read_json
from datalist.image import PIXEL_LIMIT
from datalist.prepare import tools
from datalist.prepare.tools import Drawing

DAMAGE = (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError)
"""What fields of a wrong kind lead to."""


def read_drawings(path: Path, key: str = "") -> tuple[list[Drawing], list[str]]:
    """Read an export of an annotation tool; the tool is told by the content.

    `key` says which name counts where people choose names: Label Studio's key of the picture, VIA's
    attribute of the class.

    Returns:
        A drawing for each image, and sentences on what the file holds beside masks.

    Raises:
        UserError: a file of another kind.
    """
    ignored: Counter[str] = Counter()
    suffix = path.suffix.casefold()
    try:
        if suffix == ".xml":
            drawings = tools.from_cvat(path, ignored)
        elif suffix == ".zip":
            raise UserError(f"{path} is an archive: unpack it and give the .xml or .json inside")
        elif suffix == ".csv":
            drawings = tools.from_via(tools.via_table(path), key, ignored)
        elif isinstance(content := read_json(path), list):
            drawings = tools.from_labelstudio(content, key, ignored)
        elif tools.is_via(content):
            drawings = tools.from_via(content, key, ignored)
        else:
            drawings = tools.from_coco(check_instances(content, path), path, ignored)
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}") from None
    except DAMAGE as error:
        raise UserError(f"{path} is not a readable export ({str(error)[:80]})") from None
    if not drawings:
        raise UserError(f"{path} holds no annotated image")
    return drawings, [f"{count} {what} left out" for what, count in ignored.items()]


def paint(size: tuple[int, int], shapes: Iterable[tuple[int, Any]], where: str) -> np.ndarray:
    """Paint shapes over each other: class indices, uint8 (height, width).

    Args:
        shapes: class index and shape, in the order of painting.

    Raises:
        UserError: a shape cannot be painted, or pycocotools is missing.
    """
    try:
        height, width = size
        if type(height) is not int or type(width) is not int or min(height, width) < 1:
            raise ValueError(f"{height!r} x {width!r} pixels")
        if height * width > PIXEL_LIMIT:
            raise ValueError(f"{height} x {width} pixels are too many")
        mask = np.zeros((height, width), np.uint8)
        for index, shape in shapes:
            mask[shape_mask(shape, height, width)] = index
    except ImportError:
        raise UserError("masks of COCO need pycocotools: pip install pycocotools") from None
    except DAMAGE as error:
        raise UserError(f"{where} cannot be drawn ({str(error)[:80]})") from None
    return mask


def shape_mask(shape: list | dict, height: int, width: int) -> np.ndarray:
    """Pixels of one shape, bool (height, width).

    `shape` is COCO's polygons or run lengths; {"brush": Label Studio's bytes}; {"runs": row by row,
    first of 0, "left", "top", "width", "height"} of CVAT.

    Raises:
        ValueError, TypeError: what pycocotools' C code would take without a check.
    """
    from pycocotools import mask as rle

    if isinstance(shape, list):
        for path in shape:
            points = np.asarray(path, float).reshape(-1, 2)
            # Its time and memory grow with the length of the outline.
            if len(points) < 3 or not (np.abs(points) <= 2 * max(height, width)).all():
                raise ValueError("a polygon of less than three corners, or far outside")
        return rle.decode(rle.merge(rle.frPyObjects(shape, height, width))) > 0
    if "brush" in shape:
        return unpack_brush(shape["brush"], height, width)
    if "runs" in shape:
        mask = np.zeros((height, width), bool)
        top, left, runs = shape["top"], shape["left"], shape["runs"]
        box = mask[top : top + shape["height"], left : left + shape["width"]]
        inside = min(top, left, *runs) >= 0 and box.shape == (shape["height"], shape["width"])
        if not inside or sum(runs) != box.size:
            raise ValueError("run lengths that do not fill their box")
        box[...] = np.repeat(np.arange(len(runs)) % 2 > 0, runs).reshape(box.shape)
        return mask
    packed = {"size": [height, width], "counts": shape["counts"]}
    if shape["size"] != packed["size"]:
        raise ValueError(f"run lengths of {shape['size']!r} pixels")
    if isinstance(shape["counts"], list):
        runs = shape["counts"]
        if not all(type(run) is int and run >= 0 for run in runs) or sum(runs) != height * width:
            raise ValueError("run lengths that do not fill the image")
        packed = rle.frPyObjects(packed, height, width)
    elif not isinstance(shape["counts"], str) or not shape["counts"].isascii():
        raise ValueError("run lengths that are no text")
    return rle.decode(packed) > 0


def unpack_brush(packed: list[int], height: int, width: int) -> np.ndarray:
    """Pixels that Label Studio's brush painted, bool (height, width).

    Its bytes are a stream of bits: 32 for the number of values, 5 for the bits of a value less
    one, four times 4 for the widths of run lengths less one; then chunks of a bit (run or single
    values), 2 bits (which width), the length less one, and one value or as many as the length.
    The values are RGBA, row by row; the alpha channel is the mask. ValueError where the stream ends
    early or is of another size.
    """
    bits = "".join(f"{byte:08b}" for byte in np.array(packed, np.uint8).tolist())
    position = 0

    def take(count: int) -> int:
        nonlocal position
        position += count
        if position > len(bits):
            raise ValueError("brush data that end early")
        return int(bits[position - count : position], 2)

    if take(32) != 4 * height * width:
        raise ValueError("brush data of another size")
    depth = take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    values = np.zeros(4 * height * width, np.uint32)
    start = 0
    while start < len(values):
        run, end = take(1), take(2)
        end = start + take(lengths[end]) + 1
        if end > len(values):
            raise ValueError("brush data that are too long")
        values[start:end] = take(depth) if run else [take(depth) for _ in range(end - start)]
        start = end
    return values.reshape(height, width, 4)[..., 3] > 0
