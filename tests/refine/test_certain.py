"""IRN's sure labels against its own program."""

import numpy as np
import pytest

from base import IGNORE
from refine import irn_labels, refine_labels


@pytest.fixture
def released(reference):
    """Released maps and labels, as arrays; labels number the rows of the maps from 1."""
    data = {key: value.numpy() for key, value in reference("irn_labels").items()}
    for key in ("foreground", "background", "label"):
        index = np.searchsorted(data["keys"], data[key])
        data[key] = np.where(data[key] == IGNORE, IGNORE, index)
    return data


@pytest.mark.parametrize("name, threshold", [("foreground", 0.30), ("background", 0.05)])
def test_labels_after_the_crf_equal_the_released_ones(released, name, threshold):
    seed = released["seed"]
    label = np.concatenate((np.full_like(seed[:1], threshold), seed)).argmax(0)
    found = refine_labels(label, released["image"], 3)
    assert (found != label).any(), "the CRF has nothing to do"
    assert (found == released[name]).mean() >= 0.999


def test_joined_labels_equal_the_released_ones(released):
    found = irn_labels(released["foreground"], released["background"])
    assert np.array_equal(found, released["label"])
    assert set(np.unique(found)) == {0, 1, 2, IGNORE}


def test_the_foreground_s_class_wins():
    foreground = np.array([0, 0, 1, 2, 2])
    background = np.array([0, 1, 0, 1, 2])
    assert irn_labels(foreground, background).tolist() == [0, IGNORE, 1, 2, 2]


def test_one_class_has_nothing_to_refine():
    label = np.zeros((4, 5), np.uint8)
    assert np.array_equal(refine_labels(label, np.zeros((4, 5, 3), np.uint8), 1), label)


def test_scale_narrows_the_crf(released):
    seed = released["seed"]
    label = np.concatenate((np.full_like(seed[:1], 0.05), seed)).argmax(0)
    changed = [
        (refine_labels(label, released["image"], 3, scale=scale) != label).sum()
        for scale in (1.0, 100.0)
    ]
    assert changed[1] < changed[0]
