"""Where on Earth the pixels of a GeoTIFF are, carried over to labels by the package rasterio."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from base import UserError
from base.file import replacing
from datalist.decode import is_tiff
from datalist.image import Rows, strips
from datalist.palette import palette
from datalist.tiff import Tiff

GEO_TAGS = (33550, 33922, 34264, 34735, 50844)
"""TIFF tags of a georeference: scale, tie points, matrix, keys, rational polynomials."""
LAYOUT = {
    "driver": "GTiff", "dtype": "uint8", "compress": "deflate", "tiled": True, "blockxsize": 256,
    "blockysize": 256, "bigtiff": "IF_SAFER",
}  # fmt: skip
"""How the GeoTIFF of a label is stored."""
PACKAGE = "pictures have a georeference, which label/NAME.tif gets too after: pip install rasterio"


def write_georeferenced(path: Path, label: Rows, source: Path) -> str:
    """Write a label as a GeoTIFF that lies where its picture lies, whole or not at all.

    Args:
        label: class indices, uint8 (H, W), of the size of the picture `source`, read in strips.

    Returns:
        A sentence on a georeference that is not kept; empty where it is, or there is none.
    """
    if not is_tiff(source):
        return ""
    with Tiff(source) as tiff:
        if not any(tag in tiff.key.tags for tag in GEO_TAGS):
            return ""
        if tiff.orientation != 1:
            return f"{source}: its georeference is that of a turned picture, and is not kept"
    try:
        import rasterio
    except ImportError:
        return PACKAGE
    from rasterio.control import GroundControlPoint
    from rasterio.windows import Window

    try:
        with warnings.catch_warnings(), replacing(path) as part:
            warnings.simplefilter("ignore")  # rasterio warns of pictures without a transform
            origin = read_place(source, label.shape)
            transform = {key: origin[key] for key in ("crs", "transform")}
            size = {"height": label.shape[0], "width": label.shape[1], "count": 1}
            with rasterio.open(part, "w", **LAYOUT, **size, **transform) as file:
                top = 0
                for rows in strips(label):
                    file.write(rows, 1, window=Window(0, top, rows.shape[1], len(rows)))
                    top += len(rows)
                file.write_colormap(1, dict(enumerate(map(tuple, palette(256).tolist()))))
                if origin["points"]:
                    points = [GroundControlPoint(*point) for point in origin["points"]]
                    file.gcps = points, origin["points_crs"]
                if origin["rpcs"]:
                    file.rpcs = origin["rpcs"]
            if read_place(part, label.shape) != origin:
                raise UserError("the copy would lie elsewhere")
    except (rasterio.errors.RasterioError, ValueError, UserError) as error:
        reason = str(error).partition("\n")[0][:80]
        return f"{source}: its georeference cannot be kept ({reason})"
    return ""


def read_place(path: Path, size: tuple[int, ...]) -> dict[str, Any]:
    """Coordinate system, transform, ground control points and rational polynomials of a TIFF."""
    import rasterio

    with rasterio.open(path) as file:
        if (file.height, file.width) != tuple(size):
            raise UserError(f"it has {file.height} x {file.width} pixels")
        points, points_crs = file.gcps
        return {
            "crs": file.crs,
            "transform": file.transform,
            "points": [(p.row, p.col, p.x, p.y, p.z) for p in points],
            "points_crs": points_crs,
            "rpcs": file.rpcs,
        }


def lon_lat(path: Path, size: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray] | None:
    """What makes longitude and latitude of points of a GeoTIFF, x and y in pixels, (n, 2).

    In degrees (WGS 84). None for a file without coordinate system and transform, or without the
    package rasterio. `size` is the height and width that the file must have.
    """
    if not is_tiff(path):
        return None
    with Tiff(path) as tiff:
        if not any(tag in tiff.key.tags for tag in GEO_TAGS) or tiff.orientation != 1:
            return None
    try:
        from rasterio import warp
    except ImportError:
        return None
    origin = read_place(path, size)
    crs, transform = origin["crs"], origin["transform"]
    if crs is None or transform.is_identity:
        return None

    def convert(points: np.ndarray) -> np.ndarray:
        x, y = transform * tuple(points.T)
        return np.stack(warp.transform(crs, "EPSG:4326", x, y), 1)

    return convert
