"""Cuts large pictures into tiles for training: `python -m datalist.prepare.arrange --tile N`."""

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import tifffile
from tqdm import tqdm

from base import UserError
from base.tile import starts
from datalist.bag import BAGS_FILE
from datalist.folder import DataFolder, write_csv
from datalist.image import PictureFile
from datalist.prepare.names import NAMES_FILE
from datalist.prepare.pictures import Picture

SMALLEST = 32
"""Side of the smallest tile, pixels."""
NODATA = 42113
"""Tag of a TIFF, by GDAL: the value of pixels that were not measured."""


def cut_pictures(
    pictures: Mapping[str, Picture],
    tags: Mapping[str, tuple[int, ...]],
    data: DataFolder,
    source: Path,
    side: int,
    bags: bool,
) -> str:
    """Write the tiles of pictures, with the tags of their picture, and the tables of their names.

    A picture is cut along the sides that are longer than a tile; neighbours overlap a little where
    the tiles do not fit exactly. A tile has the values of the file, without transparency: tiles of
    a JPEG are JPEG of quality 95, others lose nothing.

    Args:
        source: folder that the names of files are below.
        side: of a tile, pixels.
        bags: write bags.csv, which says which tiles are of one picture.

    Raises:
        UserError: a side that is too small, a damaged picture, or a tile with the id of a picture.
    """
    if side < SMALLEST:
        raise UserError(f"--tile {side}: tiles have {SMALLEST} pixels a side or more")
    origin: dict[str, str] = {}
    shown = tqdm(pictures.items(), "tiles", leave=False, disable=None, file=sys.stderr)
    for name, picture in shown:
        file = picture.file.relative_to(source).as_posix()
        for tile in cut(picture.file, name, data, side):
            if tile in origin:
                raise UserError(f"'{tile}' is a tile of {file} and of {origin[tile]}: rename one")
            origin[tile] = file
            data.tags[tile] = tags[name]
    whole = ((name, file) for name, file in origin.items() if name in tags)
    write_csv(data.root / NAMES_FILE, ["id", "file"], whole)
    if bags:
        write_csv(data.root / BAGS_FILE, ["id", "bag"], origin.items())
    most = max(Counter(origin.values()).values())
    return f"{len(pictures)} pictures are cut into {len(origin)} tiles, at most {most} a picture."


def cut(file: Path, name: str, data: DataFolder, side: int) -> list[str]:
    """Write the tiles of a picture; returns their ids."""
    ids = []
    with PictureFile(file) as picture:
        height, width = (min(side, length) for length in picture.size)
        is_jpeg = not picture.tiff and picture.file.format in ("JPEG", "MPO")
        suffix = ".tif" if picture.tiff else ".jpg" if is_jpeg else ".png"
        for top in starts(picture.size[0], height):
            for left in starts(picture.size[1], width):
                tile = name if picture.size == (height, width) else f"{name}_y{top}_x{left}"
                pixels = picture.stored(top, left, height, width)
                write_pixels(data.image(tile, suffix), pixels, picture.file.nodata)
                ids.append(tile)
    return ids


def write_pixels(path: Path, pixels: np.ndarray, nodata: float | None = None) -> None:
    """Write values (H, W, bands) as they are: a JPEG, a PNG of three bands, or a TIFF."""
    if path.suffix == ".tif" or pixels.shape[2] != 3:
        if pixels.dtype == bool:
            pixels = pixels.astype(np.uint8) * 255
        tags = [] if nodata is None else [(NODATA, "s", 0, f"{nodata:g}", True)]
        rgb = pixels.shape[2] == 3
        # A page for each of other bands: a fourth in one page could be taken for transparency.
        tifffile.imwrite(
            path.with_suffix(".tif"),
            pixels if rgb else np.ascontiguousarray(pixels.transpose(2, 0, 1)),
            photometric="rgb" if rgb else "minisblack",
            compression="zlib",
            extratags=tags,
            metadata=None,
        )
        return
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix == ".jpg" else []
    if not cv2.imwrite(str(path), np.ascontiguousarray(pixels[..., ::-1]), options):
        raise UserError(f"{path} cannot be written")
