"""Sheets of pictures: every picture in its place, and maps in their colours."""

import numpy as np
from PIL import Image

from script.study.sheet import heat, marked, sheet


def solid(colour, size=(30, 40)):
    return np.full((*size, 3), colour, np.uint8)


def test_sheet_holds_every_picture_in_order(tmp_path):
    red, green, blue, grey = (solid(c) for c in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (90,) * 3))
    for name in ("a.png", "a.jpg"):
        sheet(tmp_path / name, [[red, green], [blue, grey]], ("x", "y"), ("one", "two"), (60, 80))
        pixels = np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int)
        height, width = pixels.shape[:2]
        assert 120 <= height <= 200 and 160 <= width <= 260
        for picture, (row, column) in zip(
            (red, green, blue, grey), ((0.3, 0.3), (0.3, 0.75), (0.8, 0.3), (0.8, 0.75))
        ):
            found = pixels[int(row * height), int(column * width)]
            assert abs(found - picture[0, 0]).max() <= 12
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jpg", "a.png"]


def test_heat_is_red_where_the_map_is_high():
    score = np.zeros((3, 4))
    score[:, 3] = 1
    found = heat(solid((0, 0, 0)), score).astype(int)
    assert found.shape == (30, 40, 3)
    assert found[15, 38, 0] > 50 > found[15, 38, 2] and found[15, 1, 2] > found[15, 1, 1]


def test_marked_fades_what_has_no_class():
    label = np.array([[0, 1], [255, 255]])
    found = marked(solid((100, 100, 100)), label)
    assert (found[5, 5] == 100).all()  # background cues show the image
    assert found[5, 35, 0] > 100 > found[5, 35, 1]  # VOC's first class is dark red
    assert (found[25, 5] == 195).all()
