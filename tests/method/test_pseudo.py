"""Masks from scores that have a background of their own."""

import numpy as np
import pytest

from base import IGNORE, UserError
from method.choose import choose_pseudo
from method.contrast import Contrast
from method.pseudo import PseudoRecipe, mask_of, shrink_factors, sure_level

IMAGE = np.zeros((2, 3, 3), np.uint8)
SEED = np.array(
    [[[0.9, 0.55, 0.1], [0.9, 0.45, 0.0]], [[0.0, 0.6, 0.1], [0.1, 0.1, 0.0]]], np.float32
)
BACKGROUND = np.full((2, 3), 0.5, np.float32)


def test_one_factor_keeps_or_moves_the_background():
    plain = PseudoRecipe(background_factor=(1.0,), crf="")
    assert mask_of(SEED, IMAGE, plain, BACKGROUND).tolist() == [[1, 2, 0], [1, 0, 0]]
    higher = PseudoRecipe(background_factor=(1.5,), crf="")
    assert mask_of(SEED, IMAGE, higher, BACKGROUND).tolist() == [[1, 0, 0], [1, 0, 0]]


def test_between_two_factors_nothing_is_sure():
    recipe = PseudoRecipe(background_factor=(0.7, 1.3), crf="")
    expected = [[1, IGNORE, 0], [1, IGNORE, 0]]
    assert mask_of(SEED, IMAGE, recipe, BACKGROUND).tolist() == expected


def test_the_crf_sees_each_background():
    """The image is of one colour: the CRF gives the single pixel of a class to its neighbours."""
    image = np.zeros((24, 24, 3), np.uint8)
    seed = np.full((1, 24, 24), 0.1, np.float32)
    seed[0, 12, 12] = 0.9
    background = np.full((24, 24), 0.5, np.float32)
    recipe = choose_pseudo("photo", "scored", "folder")
    assert not mask_of(seed, image, recipe, background).any()
    assert mask_of(
        seed, image, PseudoRecipe(background_factor=(0.7, 1.3), crf=""), background
    ).any()


def test_without_tags_all_is_background():
    recipe = choose_pseudo("photo", "scored", "folder")
    assert not mask_of(SEED[:0], IMAGE, recipe, BACKGROUND).any()


def test_what_cannot_be():
    with pytest.raises(UserError, match="seeds that have a background score"):
        mask_of(SEED, IMAGE, PseudoRecipe(background_factor=(1.0,)))
    with pytest.raises(UserError, match="take one number, or two"):
        mask_of(SEED, IMAGE, PseudoRecipe(background_factor=(1.0, 2.0, 3.0)), BACKGROUND)


def test_what_exceeds_a_class_s_size_becomes_unsure():
    recipe = PseudoRecipe(gamma=(2.0, 12.0), crf="")
    assert mask_of(SEED, IMAGE, recipe).tolist() == [[1, 2, 0], [1, 1, 0]]
    shrunk = mask_of(SEED, IMAGE, recipe, keys=[4, 7], shrink={4: 0.5, 9: 0.1}).tolist()
    assert shrunk == [[1, 2, 0], [1, IGNORE, 0]]
    recipe = PseudoRecipe(crf="")
    same = Contrast({}, used=True)  # the maps alone, over a threshold
    whole = mask_of(SEED, IMAGE, recipe, keys=[4, 7], contrast=same)
    part = mask_of(SEED, IMAGE, recipe, keys=[4, 7], contrast=same, shrink={4: 0.1})
    assert 1 in whole and 1 not in part and (part[whole != 1] == whole[whole != 1]).all()


def test_factors_come_from_the_median_image():
    assert shrink_factors({1: [0.2, 0.8, 0.9], 2: [0.3, 0.1]}, 0.4) == {1: 0.5}
    level = sure_level(PseudoRecipe(gamma=(2.0, 12.0)))
    assert level == pytest.approx((3 - 5**0.5) / 2, abs=1e-4)
    assert sure_level(PseudoRecipe(threshold=(0.3, 0.05))) == 0.3
    assert sure_level(PseudoRecipe(), Contrast({}, used=True)) == 1.0
