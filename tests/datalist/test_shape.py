"""Share and thickness of classes in masks, and the file that keeps them."""

import numpy as np
import pytest

from base import UserError
from datalist.shape import (
    Shape,
    measure_shape,
    median_shapes,
    print_flags,
    read_shapes,
    write_shapes,
)

CLASSES = ("background", "crack", "stain")


@pytest.mark.parametrize("width", [2, 4, 6, 10])
def test_a_stripe_is_as_thick_as_it_is_wide(width):
    region = np.zeros((100, 100), bool)
    region[20 : 20 + width] = True
    shape = measure_shape(region)
    assert shape.share == pytest.approx(width / 100)
    assert shape.thickness == pytest.approx(width / 100, abs=0.011)


def test_whole_images_and_single_pixels():
    assert measure_shape(np.ones((5, 8), bool)).share == 1
    assert measure_shape(np.eye(1, dtype=bool)).thickness > 0


def test_medians_are_kept(tmp_path):
    rows = {2: [Shape(0.1, 0.2), Shape(0.3, 0.1), Shape(0.2, 0.9)], 1: []}
    medians = median_shapes(rows)
    assert medians == {2: Shape(0.2, 0.2)}
    write_shapes(tmp_path / "shape.json", medians, CLASSES)
    assert read_shapes(tmp_path / "shape.json", CLASSES) == medians


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"crack": 1}',
        '{"crack": {"share": 0}}',
        '{"crack": {"share": 0, "thickness": 1}}',
        '{"crack": {"share": NaN, "thickness": 1}}',
        '{"hole": {"share": 0.1, "thickness": 1}}',
    ],
)
def test_bad_files_are_named(tmp_path, text):
    path = tmp_path / "shape.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"shape\.json"):
        read_shapes(path, CLASSES)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match=r"shape\.json"):
        read_shapes(tmp_path / "shape.json", CLASSES)


@pytest.mark.parametrize("thickness, flags", [(0.04, "--fine"), (0.09, "")])
def test_thin_classes_want_fine_logits(tmp_path, capsys, thickness, flags):
    path = tmp_path / "shape.json"
    write_shapes(path, {1: Shape(0.1, thickness), 2: Shape(0.3, 0.4)}, CLASSES)
    print_flags(path)
    assert capsys.readouterr().out.strip() == flags
