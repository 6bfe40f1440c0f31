"""A label lies where its picture lies; what cannot be kept is said, and nothing is half written."""

import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from datalist.georeference import write_georeferenced
from datalist.image import read_image, read_mask
from datalist.palette import palette

rasterio = pytest.importorskip("rasterio")
SIZE = (30, 40)
LABEL = (np.indices(SIZE).sum(0) // 5 % 4).astype(np.uint8)


def picture(path, **place):
    pixels = np.random.default_rng(0).integers(0, 255, (3, *SIZE), dtype=np.uint8)
    points, rpcs = place.pop("gcps", None), place.pop("rpcs", None)
    with rasterio.open(
        path, "w", driver="GTiff", height=SIZE[0], width=SIZE[1], count=3, dtype="uint8",
        photometric="rgb", **place,
    ) as file:  # fmt: skip
        file.write(pixels)
        if points:
            file.gcps = points, rasterio.crs.CRS.from_epsg(4326)
        if rpcs:
            file.rpcs = rpcs
    return path


def points():
    from rasterio.control import GroundControlPoint as Point

    return [Point(row, col, 8 + col / 100, 47 - row / 100, 400.0) for row, col in
            ((0, 0), (0, 40), (30, 0), (30, 40))]  # fmt: skip


def polynomials():
    from rasterio.rpc import RPC

    rows = {f"{side}_{part}_coeff": [1.0, *[0.01] * 19] for side in ("line", "samp")
            for part in ("num", "den")}  # fmt: skip
    facts = {f"{name}_{kind}": 1.0 for name in ("height", "lat", "line", "long", "samp")
             for kind in ("off", "scale")}  # fmt: skip
    return RPC(**rows, **facts, err_bias=None, err_rand=None)


PLACES = {
    "north up": {"crs": "EPSG:32632", "transform": rasterio.Affine(0.1, 0, 4e5, 0, -0.1, 5e6)},
    "rotated": {"crs": "EPSG:32632", "transform": rasterio.Affine(0.1, 0.02, 4e5, 0.03, -0.1, 5e6)},
    "points": {"gcps": points()},
    "polynomials": {"rpcs": polynomials()},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", PLACES)
def test_a_label_lies_where_its_picture_lies(tmp_path, kind):
    source = picture(tmp_path / "a.tif", **PLACES[kind])
    target = tmp_path / "label/a.tif"
    assert write_georeferenced(target, LABEL, source) == ""
    with rasterio.open(source) as one, rasterio.open(target) as other:
        assert one.crs == other.crs and one.transform == other.transform
        assert one.rpcs == other.rpcs and len(one.gcps[0]) == len(other.gcps[0])
        assert np.array_equal(other.read(1), LABEL) and other.count == 1
        assert other.colormap(1)[1][:3] == tuple(palette(2)[1].tolist())
    assert [path.name for path in target.parent.iterdir()] == ["a.tif"]


def test_other_pictures_get_none(tmp_path):
    target = tmp_path / "label.tif"
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((*SIZE, 3), np.uint8), photometric="rgb")
    for name in ("a.png", "b.tif"):
        assert write_georeferenced(target, LABEL, tmp_path / name) == ""
    assert not target.exists()


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_kept_is_said(tmp_path, monkeypatch):
    source = picture(tmp_path / "a.tif", **PLACES["north up"])
    target = tmp_path / "out/label.tif"
    sentence = write_georeferenced(target, LABEL[:-1], source)
    assert sentence.startswith(f"{source}: its georeference cannot be kept (it has 30 x 40 pixels")
    with tifffile.TiffFile(source) as file:
        tags = [(274, "H", 1, 6, True)]
        tags += [(t.code, t.dtype, t.count, t.value, True) for t in file.pages[0].tags.values()
                 if t.code in (33550, 33922, 34735)]  # fmt: skip
    turned = tmp_path / "turned.tif"
    pixels = read_image(source)
    tifffile.imwrite(turned, pixels, photometric="rgb", extratags=tags)
    assert "that of a turned picture, and is not kept" in write_georeferenced(
        target, LABEL.T.copy(), turned
    )
    monkeypatch.setitem(sys.modules, "rasterio", None)
    assert "pip install rasterio" in write_georeferenced(target, LABEL, source)
    assert not target.parent.exists() or not list(target.parent.iterdir())


@pytest.mark.filterwarnings("ignore")
def test_prediction_writes_it_beside_the_png(tmp_path, capsys):
    import torch

    from datalist.spec import Spec
    from method import stage_class
    from utils.flags import Predict
    from utils.infer import predict_split

    kind = stage_class("supervised")
    spec = Spec("x", tmp_path, ("background", "cat", "dog"), {})
    torch.manual_seed(0)
    stage = kind(kind.recipes["smoke"], spec)
    picture(tmp_path / "a.tif", **PLACES["rotated"])
    Image.new("RGB", (20, 10)).save(tmp_path / "b.png")
    out = tmp_path / "out"
    predict = Predict(out, image=(tmp_path / "a.tif", tmp_path / "b.png"), quiet=True)
    assert predict_split(stage, predict, torch.device("cpu"), 1) == []
    assert sorted(path.name for path in (out / "label").iterdir()) == ["a.png", "a.tif", "b.png"]
    with rasterio.open(out / "label/a.tif") as file:
        assert file.transform == PLACES["rotated"]["transform"]
        assert np.array_equal(file.read(1), read_mask(out / "label/a.png"))
    assert "note" not in capsys.readouterr().out
