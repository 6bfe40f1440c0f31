"""Groups of cells that look alike."""

import numpy as np
import pytest

from refine.group import group_cells


def test_directions_are_found_whatever_their_length_and_the_largest_comes_first():
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.repeat([0, 1, 2], [60, 30, 10]))
    feature = np.eye(6)[truth] + 0.02 * rng.standard_normal((100, 6))
    feature *= rng.uniform(0.5, 20, (100, 1))
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
