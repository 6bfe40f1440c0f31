"""Pictures cut into tiles, and the bags of tiles that learn from tags of whole pictures."""

import math
from itertools import pairwise

import cv2
import numpy as np
import pytest
import tifffile
import torch
from own_folder import arranged
from recipes import change_known, recipe_of

from base import UserError
from base.contract import Context
from base.tile import starts
from datalist.dataset import Images
from datalist.image import read_image
from datalist.prepare.arrange import Arguments
from datalist.prepare.check import inspect
from datalist.prepare.small import advise, extents
from datalist.prepare.update import update
from method import stage_class
from utils.draws import Draws

RNG = np.random.default_rng(2)


def picture(path, size, bands=3, dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = RNG.random((4, 5, bands))
    pixels = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)
    pixels = (pixels.reshape(*size, bands) * np.iinfo(dtype).max).astype(dtype)
    if path.suffix == ".tif":
        stored = {"planarconfig": "contig"} if bands > 1 else {}
        tifffile.imwrite(path, pixels.squeeze(), photometric="minisblack", **stored)
    else:
        cv2.imwrite(str(path), pixels[..., ::-1])
    return pixels


@pytest.fixture
def photos(tmp_path):
    """Two large pictures and a small one; the tags are folders."""
    picture(tmp_path / "photos/cat/a.png", (100, 150))
    picture(tmp_path / "photos/dog/b.jpg", (64, 200))
    picture(tmp_path / "photos/background/c.png", (50, 60))
    return tmp_path / "photos"


def cut(photos, tile=64, **flags):
    return arranged(photos, tile=tile, **flags)


@pytest.mark.parametrize("length, side", [(1, 1), (64, 64), (65, 64), (200, 64), (1000, 333)])
def test_starts_cover_a_length(length, side):
    found = starts(length, side)
    assert found[0] == 0 and found[-1] + side == length
    assert len(found) == -(-length // side)
    assert all(0 < b - a <= side for a, b in pairwise(found))


def test_tiles_have_the_pixels_and_tags_of_their_picture(photos):
    spec, left_out = cut(photos)
    assert left_out[-1] == "3 pictures are cut into 11 tiles, at most 6 a picture."
    whole = read_image(photos / "cat/a.png")
    for name in spec.ids("train"):
        picture_name, *place = name.split("_")
        if picture_name == "a":
            top, left = (int(word[1:]) for word in place)
            tile = read_image(spec.image_path(name))
            assert np.array_equal(tile, whole[top : top + 64, left : left + 64])
    data = Images(spec, "train", (32, 32))
    assert [data.tags[name] for name in ("a_y0_x0", "b_y0_x136", "c")] == [(1,), (2,), ()]
    assert data.bags is not None and len(set(data.bags.tolist())) == 3
    assert data[0]["bag"] == data.bags[0] and data[0]["bag"].dtype == torch.int64
    assert spec.image_path("b_y0_x0").suffix == ".jpg"
    difference = read_image(spec.image_path("b_y0_x0")).astype(int)
    difference -= read_image(photos / "dog/b.jpg")[:, :64]
    assert abs(difference).mean() < 2


def test_check_reads_the_bags(photos):
    spec, _ = cut(photos)
    line = "bags of train: 11 tiles of 3 pictures, at most 6 a picture (bags.csv)"
    assert line in inspect(spec, ["train"]).lines
    (spec.root / "bags.csv").write_text("id,bag\nc,x\nc,x\n")
    assert any("the id comes twice" in error for error in inspect(spec, ["train"]).errors)


def test_without_bags_every_tile_has_the_tags(photos):
    spec, _ = cut(photos, bags=False)
    assert Images(spec, "train").bags is None
    assert not (spec.root / "bags.csv").exists()


@pytest.mark.parametrize(("bands", "dtype"), [(5, np.uint16), (4, np.uint8), (1, np.uint16)])
def test_tiles_of_a_tiff_keep_its_values(tmp_path, bands, dtype):
    pixels = picture(tmp_path / "photos/cat/a.tif", (100, 70), bands, dtype)
    picture(tmp_path / "photos/dog/b.tif", (40, 40), bands, dtype)
    spec, _ = cut(tmp_path / "photos", bands=("all",) if bands > 3 else ())
    tile = tifffile.imread(spec.image_path("a_y36_x6")).reshape(-1, 64, 64)
    if bands == 1:
        tile = tile[:1]
    assert np.array_equal(tile.transpose(1, 2, 0), pixels[36:, 6:])
    assert read_image(spec.image_path("a_y36_x6"), spec.bands).shape == (64, 64, max(3, bands))


def test_a_side_that_is_too_small_and_tiles_that_do_not_follow_pictures(photos):
    with pytest.raises(UserError, match="32 pixels a side or more"):
        cut(photos, tile=8)
    assert not (photos.parent / "mine").exists()
    with pytest.raises(UserError, match="tiles do not follow changes"):
        update(Arguments(photos, photos.parent / "mine", tile=64), [])
    picture(photos / "cat/a_y0_x0.png", (40, 40))
    with pytest.raises(UserError, match="'a_y0_x0' is a tile of"):
        cut(photos)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a table"),
        ("id,bag\na_y0_x0\n", "line 2: the line is not 'ID,BAG'"),
        ("id,bag\nc,x\nc,y\n", "line 3: the id comes twice"),
        ("id,bag\n../c,x\n", "is not an image id"),
        ("id,bag\na_y0_x0,x\nc,x\n", "'c' and 'a_y0_x0' are tiles of one picture"),
    ],
)
def test_wrong_lists_of_bags(photos, text, message):
    spec, _ = cut(photos)
    (spec.root / "bags.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        Images(spec, "train")
    assert Images(spec, "train", tag=False).bags is None


# -- sizes of things ---------------------------------------------------------------------------


def test_extents_are_those_of_the_largest_part():
    mask = np.zeros((40, 60), np.uint8)
    mask[:6, :6], mask[20:22, :4] = 2, 2
    mask[30:, 50:] = 255
    mask[10:14, 30:39] = 1
    assert extents(mask) == {1: 6.0, 2: 6.0}
    assert extents(np.zeros((3, 3), np.uint8)) == {}


def test_small_things_are_named_with_a_tile_that_shows_them():
    names = ("background", "plant", "field")
    side = 8 * 196  # of the picture: 1/8 of its sides is seen
    images = [((side, side), {1: 60.0, 2: 900.0})] * 3 + [((side, side), None)]
    sentence = advise(images, names)
    assert "'plant' (60)" in sentence and "field" not in sentence and "--tile 352`" in sentence
    # In such a tile 60 pixels are 4 cells of the input, within the rounding to 32 pixels.
    assert 32 <= 60 / (352 / math.sqrt(38400)) < 36
    assert advise([((side, side), {1: 130.0})], names) == ""
    assert advise([((196, 190), {1: 2.0})], names) == ""  # no large picture
    assert advise([], names) == ""


def test_without_masks_large_pictures_are_enough():
    sentence = advise([((3000, 4000), None)] * 2, ("background", "plant"))
    assert "1/18 of their sides: what covers less than 283 x 283 pixels" in sentence
    assert "--tile 864`" in sentence
    assert advise([((1000, 1500), None)], ("background", "plant")) == ""


def test_check_says_so(tmp_path):
    picture(tmp_path / "photos/cat/a.png", (640, 900))
    picture(tmp_path / "photos/background/b.png", (640, 900))
    spec, _ = arranged(tmp_path / "photos")
    assert not [x for x in inspect(spec).warnings if "--tile" in x]
    spec.mask_folder.mkdir()
    mask = np.zeros((640, 900), np.uint8)
    mask[:30, :30] = 1
    cv2.imwrite(str(spec.mask_path("a")), mask)
    (warning,) = [x for x in inspect(spec).warnings if "--tile" in x]
    assert "'cat' (30)" in warning and "--tile 160`" in warning


# -- training ----------------------------------------------------------------------------------


def test_the_tiles_of_a_bag_follow_one_another():
    bags = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 2])
    order = [index for batch in Draws(10, 5, 0, 4, seed=1, bags=bags) for index, _ in batch]
    for epoch in (order[:10], order[10:]):
        assert sorted(epoch) == list(range(10))
        row = bags[epoch].tolist()
        assert sum(a != b for a, b in pairwise(row)) == 2
    assert order[:10] != order[10:]
    assert list(Draws(10, 5, 0, 4, 1, bags=bags))[2:] == list(Draws(10, 5, 2, 4, 1, bags=bags))


def stage_on(spec, name, recipe="smoke", **changes):
    masks = str(spec.mask_folder)
    recipe = change_known(recipe_of(name, recipe), dataset=str(spec.root), cue=masks, **changes)
    torch.manual_seed(0)
    return stage_class(name)(recipe, spec)


def test_stages_pool_over_bags_or_refuse_them(photos):
    spec, _ = cut(photos)
    spec.mask_folder.mkdir()
    for name in spec.ids("train"):
        cv2.imwrite(
            str(spec.mask_path(name)), np.zeros(read_image(spec.image_path(name)).shape[:2])
        )
    data = stage_on(spec, "cam").dataset()
    indices = [i for i, name in enumerate(data.ids) if name.startswith(("a", "c"))]
    samples = [data[i] for i in indices]
    batch = {k: torch.stack([s[k] for s in samples]) for k in ("image", "tag", "bag")}
    stage = stage_on(spec, "cam", dropout=0.0)
    loss = stage.losses(batch, Context())["classify"]
    stage.network.eval()
    logit = stage.network.train()(batch["image"])
    inside = batch["tag"][:, 0] > 0
    softplus = torch.nn.functional.softplus
    shown = softplus(-logit[inside, 0].max()) + softplus(logit[inside, 1]).mean()
    expected = (shown + softplus(logit[~inside]).sum()) / 2 / 2
    assert torch.allclose(loss, expected, atol=1e-5)
    for name in ("seam", "rsepm"):
        with pytest.raises(UserError, match=r"use cam, sec or dsrg; or, where .* remove the file"):
            stage_on(spec, name).dataset()
    for name in ("sec", "dsrg"):
        recipe = "photo-timm"
        data = stage_on(spec, name, recipe).dataset()
        assert data.bags is not None
    sec = stage_on(spec, "sec", "photo-timm", constrain_weight=0.0)
    samples = [data[i] for i in indices]
    batch = {k: torch.stack([s[k] for s in samples]) for k in ("image", "tag", "bag", "mask")}
    terms = sec.losses(batch, Context())
    batch.pop("bag")
    assert not torch.equal(terms["expand"], sec.losses(batch, Context())["expand"])
    assert sec.losses(batch, Context())["expand"].isfinite()


def test_maps_of_a_tile_without_the_class_are_empty(photos):
    spec, _ = cut(photos)
    stage = stage_on(spec, "cam")
    stage.network.eval()
    image = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        stage.network.score.bias[:] = torch.tensor([-1e3, 1e3])
        score = stage.predict([image], torch.ones(2, 2), False)
        assert not score[:, 1].any() and score[:, 2].amax() > 0
        assert not stage.predict([image], torch.tensor([[1.0, 0.0]] * 2), False)[:, 1:].any()
