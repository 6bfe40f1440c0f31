"""Sheets of pictures: every picture in its place, and cues in their colours."""

import numpy as np
from PIL import Image

from script.study.figure import GAP, HEAD, marked, sheet


def solid(colour, size=(30, 40)):
    return np.full((*size, 3), colour, np.uint8)


def test_sheet_holds_every_picture_in_order(tmp_path):
    rows = [[solid((255, 0, 0)), solid((0, 255, 0))], [solid((0, 0, 255)), solid((90,) * 3)]]
    for name in ("a.png", "a.jpg"):
        sheet(tmp_path / name, rows, ("x", "y"), (60, 80))
        pixels = np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int)
        assert pixels.shape == (HEAD + 2 * 60 + GAP, 2 * 80 + GAP, 3)
        assert pixels[:HEAD].min() < 100  # titles
        for row, pictures in enumerate(rows):
            for column, picture in enumerate(pictures):
                part = pixels[HEAD + row * 64 + 8 :, column * 84 + 8 :][:44, :64]
                assert abs(part - picture[0, 0]).max() <= 12
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jpg", "a.png"]


def test_marked_fades_what_has_no_class():
    label = np.array([[0, 1], [255, 255]])
    found = marked(solid((100, 100, 100)), label)
    assert (found[5, 5] == 100).all()  # background cues show the image
    assert found[5, 35, 0] > 100 > found[5, 35, 1]  # VOC's first class is dark red
    assert (found[25, 5] == 195).all()
