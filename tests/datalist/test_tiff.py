"""TIFF of many kinds, against what was written, whole and in windows."""

from base64 import b64decode

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from base import UserError
from datalist.bands import Bands
from datalist.image import PictureFile, image_size, read_image, read_sized

RNG = np.random.default_rng(3)
RGB = RNG.integers(0, 256, (90, 70, 3), dtype=np.uint8)
RGB[:40] = RGB[:40] // 64 * 64  # something to compress
GREY = RGB[..., 0]
SIX = RNG.integers(0, 4000, (90, 70, 6), dtype=np.uint16)
RANGE = {"low": (0.0,), "high": (4000.0,)}

LAYOUTS = {
    "strips": {"rowsperstrip": 7},
    "one strip": {"rowsperstrip": 90},
    "tiles": {"tile": (16, 32)},
    "lzw": {"compression": "lzw", "predictor": True},
    "deflate": {"compression": "zlib", "tile": (32, 16)},
    "big": {"bigtiff": True, "tile": (16, 16)},
    "big endian": {"byteorder": ">"},
}


def scaled(values, low, high):
    return np.rint(((values.astype(float) - low) * (255 / (high - low))).clip(0, 255)).astype(
        np.uint8
    )


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("window", [(0, 0, 90, 70), (13, 5, 40, 33), (80, 60, 50, 50)])
def test_windows_of_every_layout(tmp_path, name, window):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, photometric="rgb", **LAYOUTS[name])
    top, left, height, width = window
    with PictureFile(path) as picture:
        assert picture.size == (90, 70)
        found = picture.read(*window)
    assert np.array_equal(found, RGB[top : top + height, left : left + width])
    assert np.array_equal(read_image(path), RGB)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("tile", [None, (32, 16)])
def test_bands_in_chosen_order(tmp_path, planar, tile):
    path = tmp_path / "a.tif"
    data = SIX if planar == "contig" else SIX.transpose(2, 0, 1)
    tifffile.imwrite(path, data, photometric="minisblack", planarconfig=planar, tile=tile)
    for index in ((4, 3, 2), (6, 1, 1, 5), (2,)):
        count = len(index)
        facts = {"mean": (1.0,) * count, "deviation": (1.0,) * count} if count > 3 else {}
        image = read_image(path, Bands(index, **RANGE, **facts))
        chosen = [k - 1 for k in index] * (3 if count == 1 else 1)
        assert np.array_equal(image, scaled(SIX[..., chosen], 0, 4000))
    with pytest.raises(UserError, match=r"a\.tif has 6 bands: choose .*--bands"):
        read_image(path)
    with pytest.raises(UserError, match=r"a\.tif has 6 bands, but band 7 was chosen"):
        read_image(path, Bands((1, 2, 7), **RANGE))


def test_pages_are_bands(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, SIX.transpose(2, 0, 1), imagej=True, metadata={"axes": "CYX"})
    image = read_image(path, Bands((3, 2, 1), **RANGE))
    assert np.array_equal(image, scaled(SIX[..., [2, 1, 0]], 0, 4000))


@pytest.mark.parametrize("kind", ["int16", "uint32", "float32", "float64"])
def test_types_of_values(tmp_path, kind):
    path = tmp_path / "a.tif"
    values = (SIX[..., 0].astype(float) - 1500).astype(kind) if kind != "uint32" else SIX[..., 0]
    values = values.astype(kind)
    tifffile.imwrite(path, values)
    image = read_image(path, Bands(low=(-500.0,), high=(2000.0,)))
    assert np.array_equal(image, np.repeat(scaled(values, -500, 2000)[..., None], 3, 2))
    with pytest.raises(UserError, match=f"numbers of type {kind}, and no range"):
        read_image(path)


def test_nodata_and_nan_become_0(tmp_path):
    path = tmp_path / "a.tif"
    values = np.full((20, 20), 100, np.float32)
    values[0], values[1] = -9999, np.nan
    tifffile.imwrite(path, values, extratags=[(42113, "s", 6, "-9999", True)])
    image = read_image(path, Bands(low=(-20000.0,), high=(100.0,)))
    assert image[:2].max() == 0 and image[2:].min() == 255


def test_grey_bilevel_inverted_palette_and_cmyk(tmp_path):
    path = tmp_path / "a.tif"
    three = np.repeat(GREY[..., None], 3, 2)
    tifffile.imwrite(path, GREY)
    assert np.array_equal(read_image(path), three)
    tifffile.imwrite(path, GREY, photometric="miniswhite")
    assert np.array_equal(read_image(path), 255 - three)
    for mode in ("1", "P", "CMYK"):
        image = Image.fromarray(RGB).convert(mode)
        image.save(path)
        expected = np.array(image.convert("RGB")).astype(int)
        assert np.abs(read_image(path) - expected).max() <= 1, mode
    Image.fromarray(RGB).save(path, compression="jpeg", quality=95)
    assert np.abs(read_image(path).astype(int) - RGB).mean() < 25


def test_transparency_is_dropped_and_another_fourth_band_is_not(tmp_path):
    path = tmp_path / "a.tif"
    alpha = np.full((90, 70, 1), 255, np.uint8)
    infrared = RNG.integers(20, 240, (90, 70, 1), dtype=np.uint8)
    for extra, band, readable in (
        (["unassalpha"], infrared, True), (["unspecified"], alpha, True),
        (["unspecified"], infrared, False),
    ):  # fmt: skip
        tifffile.imwrite(
            path, np.concatenate([RGB, band], 2), photometric="rgb", extrasamples=extra
        )
        if readable:
            assert np.array_equal(read_image(path), RGB)
        else:
            with pytest.raises(UserError, match="fourth channel that is not transparency: choose"):
                read_image(path)
        image = read_image(path, Bands((4, 1, 2)))
        assert np.array_equal(image[..., 0], band[..., 0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_in_windows(tmp_path, orientation):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    whole = read_image(path)
    assert image_size(path) == whole.shape[:2] == ((70, 90) if orientation >= 5 else (90, 70))
    with PictureFile(path) as picture:
        assert np.array_equal(picture.read(10, 20, 30, 40), whole[10:40, 20:60])


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("share", [0.02, 0.4, 0.9])
def test_cut_off(tmp_path, name, share):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, photometric="rgb", **LAYOUTS[name])
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"a\.tif is (cut off|not a readable)"):
        read_image(path)


def test_a_large_one_is_read_in_strips(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    large = cv2.resize(RGB, (900, 700), interpolation=cv2.INTER_CUBIC)
    tifffile.imwrite(path, large, photometric="rgb", tile=(64, 64), compression="zlib")
    monkeypatch.setattr("datalist.image.PIXEL_LIMIT", 200 * 200)
    image, size = read_sized(path)
    assert size == (700, 900) and image.shape == (175, 225, 3)
    expected = cv2.resize(large, (225, 175), interpolation=cv2.INTER_AREA)
    assert np.abs(image.astype(int) - expected).max() <= 1


def test_sparse_tiles_are_nodata(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.full((32, 32), 200, np.uint8), tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as file:
        counts = file.pages[0].tags["TileByteCounts"]
        counts.overwrite([counts.value[0], *[0] * (len(counts.value) - 1)])
    image = read_image(path)
    assert image[:16, :16].min() == 200 and image[16:].max() == 0


GOES_ROUND = (
    "SUkqAAgAAAAKAAABBAABAAAAAgAAAAEBBAABAAAAAQAAAAIBAwABAAAAIAAAAAMBAwABAAAAAQAAAC4uXAQBAwAB"
    "AAAAAQAAABEBBAABAAAAhgAAABYBBAABAAAAHAEDAAEAAAABAAAAUwEDAAEAAAACAABjDAAAAAAASgAAAH0AAAA="
)
"""A file whose chain of images tifffile follows for ever."""


def test_a_chain_that_goes_round_ends(tmp_path):
    (tmp_path / "a.tif").write_bytes(b64decode(GOES_ROUND))
    with pytest.raises(UserError, match=r"a\.tif holds 0 values of 32 bits"):
        read_image(tmp_path / "a.tif")
