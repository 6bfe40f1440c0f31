"""Groups of cells that look alike."""

import numpy as np
import pytest

from refine.group import group_cells, region_colours


def test_groups_are_found_and_the_largest_comes_first():
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.repeat([0, 1, 2], [60, 30, 10]))
    feature = np.eye(6)[truth] + 0.02 * rng.standard_normal((100, 6))
    group = group_cells(feature, 3)
    assert group.dtype == np.uint8 and (group == truth).all()
    assert (group_cells(feature, 3) == group).all()


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_fewer_groups_come_out_where_fewer_cells_differ(rows):
    feature = np.ones((rows, 4), np.float16)
    assert (group_cells(feature, 8) == 0).all()
    feature[0] = [1, 0, 0, 0]
    assert sorted(set(group_cells(feature, 8).tolist())) == list(range(min(rows, 2)))


def test_features_of_zero_make_no_nan():
    group = group_cells(np.zeros((10, 3)), 4)
    assert (group == 0).all()


def test_dark_and_light_regions_differ_and_a_region_has_one_colour():
    image = np.full((60, 80, 3), 128, np.uint8)
    image[10:14, 10:40] = 60
    image[40:50, 50:53] = 200
    image[42, 50:53] = 230
    inside = (image != 128).all(2)
    colour = region_colours(image, inside)
    dark = image[inside][:, 0] < 128
    assert colour.shape == (inside.sum(), 3) and len(np.unique(colour, axis=0)) == 2
    assert (colour[dark, 0] < -10).all() and (colour[~dark, 0] > 10).all()
    assert np.abs(colour[:, 1:]).max() < 1
    assert region_colours(image, np.zeros((60, 80), bool)).shape == (0, 3)
