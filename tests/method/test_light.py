"""Tags that the light tells, on drawn pictures."""

import numpy as np

from method.light import light_of, light_warnings, told_by_light

CLASSES = ("background", "a", "b")


def pictures(brighter: float):
    """40 noisy pictures with tag 1 on half of them, at random; these are brighter."""
    rng = np.random.default_rng(0)
    tags = [[1] if flag else [] for flag in rng.permutation(40) < 20]
    light = []
    for row in tags:
        base = rng.normal(100, 10) + (brighter if row else 0)
        image = (base + rng.normal(0, 5, (32, 40, 3))).clip(0, 255).astype(np.uint8)
        light.append(light_of(image, np.zeros((len(row), 32, 40), np.float32)))
    return light, tags


def test_light_that_tells_is_said():
    light, tags = pictures(80)
    (text,) = light_warnings(light, tags, CLASSES)
    assert text.startswith("tags of a are known from the light") and "without a" in text


def test_light_that_does_not_tell_is_not():
    light, tags = pictures(0)
    assert light_warnings(light, tags, CLASSES) == []
    tagged = np.array([bool(row) for row in tags])
    assert 0.2 < told_by_light(np.array(light), tagged) < 0.8


def test_the_thing_itself_is_not_the_light():
    """A bright thing where the map is high does not count."""
    image = np.full((40, 40, 3), 90, np.uint8)
    seed = np.zeros((1, 40, 40), np.float32)
    image[:20], seed[0, :20] = 250, 1
    plain = light_of(np.full((40, 40, 3), 90, np.uint8), seed[:0])
    np.testing.assert_allclose(light_of(image, seed), plain, atol=1e-3)


def test_few_pictures_one_colour_and_tags_on_all():
    light = [np.zeros(6)] * 30
    assert told_by_light(np.array(light[:6]), np.arange(6) < 3) == 0.5
    assert told_by_light(np.array(light), np.arange(30) < 15) == 0.5
    assert light_warnings(light, [[1, 2]] * 30, CLASSES) == []
