"""Whether contrast helps a folder, on drawn maps and images."""

import cv2
import numpy as np
import pytest

from base import IGNORE, UserError
from method.choose import choose_pseudo
from method.contrast import Contrast, choose_contrast, collect_evidence, contrast_scores
from method.pseudo import mask_of

RNG = np.random.default_rng(0)
SIZE = 64


def blob(radius):
    """A map that falls off from the centre."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    return np.exp(-(y**2 + x**2) / (2 * radius**2)).astype(np.float32)[None]


def line_image():
    """A dark line of 2 pixels on a grey texture."""
    image = np.full((SIZE, SIZE), 140.0) + RNG.normal(0, 3, (SIZE, SIZE))
    image[31:33, 16:48] -= 60
    return np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def spotted_image():
    """A disc of two colours, one of which is that of the ground."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    noise = cv2.GaussianBlur(RNG.normal(size=(SIZE, SIZE)), (0, 0), 4)
    image = np.full((SIZE, SIZE, 3), 140.0) + RNG.normal(0, 3, (SIZE, SIZE, 1))
    image[(y**2 + x**2 < 24**2) & (noise > 0)] += (60, 20, -40)
    image[(y**2 + x**2 < 24**2) & (noise < -0.05)] += (-50, -50, 30)
    return image.clip(0, 255).astype(np.uint8)


def test_thin_lines_want_contrast():
    evidence = [item for _ in range(4) for item in collect_evidence(blob(14), line_image(), [2])]
    chosen = choose_contrast(evidence, "auto")
    assert chosen.used and chosen.measures.keys() == {2}
    assert "contrast used" in chosen.lines(("background", "a", "b"))[0]
    score = contrast_scores(blob(14), line_image(), [2], chosen)[0]
    assert (score[31:33, 20:44] > 1).mean() > 0.9
    assert (score > 1).mean() < 0.05


def test_things_of_many_colours_do_not():
    maps = (1 / (1 + np.exp(-(blob(24) - 0.6) * 20))).astype(np.float32)
    evidence = [item for _ in range(4) for item in collect_evidence(maps, spotted_image(), [1])]
    chosen = choose_contrast(evidence, "auto")
    assert not chosen.used
    assert choose_contrast(evidence, "on").used
    assert choose_contrast(evidence, "local").measures == {1: ("local",)}
    assert not choose_contrast(evidence, "off").used


def test_nothing_to_see():
    flat = np.full((SIZE, SIZE, 3), 90, np.uint8)
    assert not choose_contrast(collect_evidence(blob(9), flat, [1]), "auto").used
    assert not choose_contrast([], "auto").used
    assert collect_evidence(blob(9)[:0], flat, []) == []
    with pytest.raises(UserError, match="--contrast much"):
        choose_contrast([], "much")


def test_masks_of_thin_lines_are_thin():
    recipe, image = choose_pseudo("photo", "sure", "folder"), line_image()
    chosen = Contrast({1: ("local",)}, True)
    mask = mask_of(blob(14), image, recipe, keys=[1], contrast=chosen)
    assert set(np.unique(mask)) <= {0, 1, IGNORE}
    assert (mask[31:33, 20:44] == 1).mean() > 0.9 and (mask == 1).mean() < 0.05
    wide = mask_of(blob(14), image, recipe, keys=[1], contrast=Contrast({}, False))
    assert (wide == 1).sum() > 2 * (mask == 1).sum()
    assert not mask_of(blob(14)[:0], image, recipe, keys=[], contrast=chosen).any()


def test_a_large_image_without_classes_says_nothing():
    image = np.zeros((300, 400, 3), np.uint8)
    assert collect_evidence(np.zeros((0, 300, 400), np.float32), image, []) == []
