"""The embedded data set: the same pixels for the same seed, and labels that fit them."""

import numpy as np
import pytest

from base import IGNORE
from datalist.image import read_image, read_mask
from datalist.scenes import WORLD, draw, scene
from datalist.spec import resolve
from datalist.tag import read_tags


def test_same_seed_same_files(tmp_path):
    first = draw(tmp_path / "a", seed=3, train=2, val=1)
    second = draw(tmp_path / "b", seed=3, train=2, val=1)
    other = draw(tmp_path / "c", seed=4, train=2, val=1)
    name = "JPEGImages/train_00001.jpg"
    assert (first / name).read_bytes() == (second / name).read_bytes()
    assert (first / name).read_bytes() != (other / name).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c"]


def test_what_is_there_is_left_alone(scenes_root):
    before = (scenes_root / "JPEGImages/train_00000.jpg").stat().st_mtime_ns
    draw(scenes_root, seed=9)
    assert (scenes_root / "JPEGImages/train_00000.jpg").stat().st_mtime_ns == before


def test_files_tell_the_same_story(scenes_root):
    spec = resolve("scenes", scenes_root)
    tags = read_tags(spec, spec.ids("train"))
    for name in spec.ids("train"):
        image, mask = read_image(spec.image_path(name)), read_mask(spec.mask_path(name))
        assert image.shape == (*mask.shape, 3)
        assert set(np.unique(mask)) - {0, IGNORE} == set(tags[name])


@pytest.mark.parametrize("world", WORLD)
def test_worlds(world):
    """All classes occur, one to three an image; no shape or texture tells a class alone."""
    classes = WORLD[world]
    rng = np.random.default_rng(0)
    seen = [scene(rng, classes)[2] for _ in range(25)]
    assert {k for tags in seen for k in tags} == set(range(1, len(classes) + 1))
    assert {len(tags) for tags in seen} <= {1, 2, 3}
    for part in ("shape", "texture"):
        used = [getattr(kind, part) for kind in classes]
        assert all(used.count(item) == 2 for item in used)


def test_worlds_share_nothing():
    for part in ("name", "shape", "texture"):
        target, external = ({getattr(k, part) for k in WORLD[w]} for w in ("target", "external"))
        assert not target & external
