import os
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from own_folder import CLASSES, SIZES, TAGS
from PIL import Image
from torch.utils.data import DataLoader

from base import UserError
from datalist import augment
from datalist.cell import resize
from datalist.cue import CueFile
from datalist.dataset import Images, Photos, photo_ids, worker_init
from datalist.image import read_image, read_mask, write_mask
from datalist.palette import palette
from datalist.spec import resolve, safe_id


@pytest.fixture
def spec(folder):
    return resolve(str(folder))


def make_cues(names, grid=(4, 5)):
    rng = np.random.default_rng(3)
    return CueFile.collect({name: rng.random((len(CLASSES), *grid)) < 0.3 for name in names})


def same(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == second[key].dtype and torch.equal(value, second[key]), key
        else:
            assert value == second[key], key


def test_native_size(spec):
    images = Images(spec, "train", mask=spec.mask_folder)
    assert len(images) == 4
    for index, name in enumerate(images.ids):
        sample = images[index]
        assert sample.keys() == {"id", "image", "tag", "mask", "size", "num_classes"}
        assert sample["id"] == name and sample["num_classes"] == 4
        assert tuple(sample["size"].tolist()) == SIZES[name]
        assert sample["image"].dtype == torch.uint8 and sample["mask"].dtype == torch.int64
        image = read_image(spec.image_path(name))
        assert np.array_equal(sample["image"].permute(1, 2, 0).numpy(), image)
        assert np.array_equal(sample["mask"].numpy(), read_mask(spec.mask_path(name)))
        assert sample["tag"].tolist() == [float(k in TAGS[name]) for k in (1, 2, 3)]


def test_warp_keeps_everything_in_place(spec, folder):
    # Left half red and of class 1: after any change the red pixels are still those of class 1.
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, :30, 0] = 255
    mask = (image[..., 0] > 0).astype(np.uint8)
    Image.fromarray(image).save(folder / "JPEGImages/a.png")
    (folder / "JPEGImages/a.jpg").unlink()
    write_mask(folder / "SegmentationClass/a.png", mask)
    cue = np.zeros((4, 4, 6), bool)
    cue[1, :, :3], cue[0, :, 3:] = True, True
    cues = CueFile.collect(dict.fromkeys("abcd", cue))
    images = Images(spec, "train", (20, 24), cue=cues, mask=spec.mask_folder, mirror=True)
    seen = set()
    for draw in range(12):
        sample = images[0, draw]
        red = sample["image"][0] > 128
        assert sample["image"].shape == (3, 20, 24) and sample["cue"].shape == (4, 4, 6)
        assert torch.equal(red, sample["mask"] == 1)
        assert torch.equal(sample["cue"][1], ~sample["cue"][0])
        assert bool(sample["cue"][1, 0, 0]) == bool(red[0, 0])
        assert tuple(sample["size"].tolist()) == (40, 60)
        seen.add(bool(red[0, 0]))
    assert seen == {False, True}


def test_without_mirror_nothing_is_random(spec):
    images = Images(spec, "train", (16, 16), mask=spec.mask_folder)
    same(images[0, 1], images[0, 2])


def test_cue_on_another_grid(spec):
    cues = make_cues("abcd")
    images = Images(spec, "train", (16, 16), cue=cues, grid=(8, 7))
    assert np.array_equal(images[1]["cue"].numpy(), resize(cues["b"], (8, 7)))


ALL = {
    "warp": {"mirror": True, "jitter": (0.3, 0.3, 0.3, 0.1)},
    "crop": {"mode": "crop", "mirror": True, "scale": (0.5, 1.5), "jitter": (0.3, 0.3, 0.3, 0.1)},
}


@pytest.mark.parametrize("options", ALL.values(), ids=ALL.keys())
def test_a_draw_is_a_pure_function_of_its_number(spec, options):
    options = {**options, "mask": spec.mask_folder}
    first = Images(spec, "train", (18, 22), **options)
    cached = Images(spec, "train", (18, 22), cache=True, **options)
    other = Images(spec, "train", (18, 22), seed=1, **options)
    np.random.seed(5)
    expected = [first[index % 4, 40 - index] for index in range(20)]
    np.random.seed(6)
    torch.manual_seed(6)
    for index in reversed(range(20)):
        same(first[index % 4, 40 - index], expected[index])
        same(cached[index % 4, 40 - index], expected[index])
    assert any(
        not torch.equal(other[index % 4, 40 - index]["image"], expected[index]["image"])
        for index in range(20)
    )


def test_workers_give_the_same_samples(spec):
    images = Images(spec, "train", (18, 22), mask=spec.mask_folder, **ALL["crop"])
    order = [(index % 4, 7 + index) for index in range(8)]
    here = list(DataLoader(images, batch_size=3, sampler=order))
    there = list(
        DataLoader(images, batch_size=3, sampler=order, num_workers=2, worker_init_fn=worker_init)
    )
    assert len(here) == len(there) == 3
    for first, second in zip(here, there):
        same(first, second)
    assert here[0]["image"].shape == (3, 3, 18, 22) and here[0]["tag"].shape == (3, 3)


def test_one_option_does_not_change_another(spec):
    options = {"mode": "crop", "scale": (0.5, 1.5), "mask": spec.mask_folder}
    plain = Images(spec, "train", (18, 22), **options)
    bright = Images(spec, "train", (18, 22), jitter=(0.3, 0.3, 0.3, 0.1), **options)
    for draw in range(5):
        assert torch.equal(plain[0, draw]["mask"], bright[0, draw]["mask"])


def test_crop_fills_outside(spec):
    images = Images(
        spec, "train", (40, 40), mode="crop", fill=(9, 8, 7), mask=spec.mask_folder, mirror=True
    )
    for draw in range(6):
        for index, name in enumerate("abcd"):
            sample = images[index, draw]
            top, left, bottom, right = sample["box"].tolist()
            assert (bottom - top, right - left) == SIZES[name]
            outside = torch.ones(40, 40, dtype=torch.bool)
            outside[top:bottom, left:right] = False
            for channel, value in enumerate((9, 8, 7)):
                assert (sample["image"][channel][outside] == value).all()
            assert (sample["mask"][outside] == 255).all()
            inside = sample["image"][:, top:bottom, left:right].permute(1, 2, 0).numpy()
            image = read_image(spec.image_path(name))
            assert np.array_equal(inside, image) or np.array_equal(inside, image[:, ::-1])


def test_crop_cuts(spec):
    images = Images(spec, "train", (8, 7), mode="crop", mask=spec.mask_folder)
    corners = set()
    for draw in range(30):
        sample = images[2, draw]
        assert sample["box"].tolist() == [0, 0, 8, 7]
        window = sample["image"].permute(1, 2, 0).numpy()
        image = read_image(spec.image_path("c"))
        found = [
            (row, column)
            for row in range(17)
            for column in range(18)
            if np.array_equal(image[row : row + 8, column : column + 7], window)
        ]
        assert len(found) == 1
        (row, column) = found[0]
        mask = read_mask(spec.mask_path("c"))[row : row + 8, column : column + 7]
        assert np.array_equal(sample["mask"].numpy(), mask)
        corners.add((row, column))
    assert len(corners) > 20


@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    window=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 99),
)
def test_windows_pixel_by_pixel(size, window, seed):
    place = augment.draw_crop(size, window, np.random.default_rng(seed))
    array = np.arange(1, size[0] * size[1] + 1).reshape(size)
    out = augment.crop(array, window, place, 0)
    top, left, bottom, right = place
    for row in range(window[0]):
        for column in range(window[1]):
            y, x = row - top, column - left
            inside = 0 <= y < size[0] and 0 <= x < size[1]
            assert out[row, column] == (array[y, x] if inside else 0)
            assert inside == (top <= row < bottom and left <= column < right)
    # Never more is left out than has to be.
    assert (out > 0).sum() == min(size[0], window[0]) * min(size[1], window[1])


def test_draw_size():
    rng = np.random.default_rng(0)
    sizes = {augment.draw_size((100, 50), rng, long=(30, 33)) for _ in range(60)}
    assert {size[0] for size in sizes} == {30, 31, 32, 33}
    assert all(abs(size[1] - size[0] / 2) <= 0.5 for size in sizes)
    scaled = [augment.draw_size((100, 50), rng, scale=(0.5, 2))[0] for _ in range(60)]
    assert 50 <= min(scaled) < 70 and 170 < max(scaled) <= 200
    assert augment.draw_size((100, 50), rng) == (100, 50)
    assert augment.draw_size((3, 1), rng, scale=(0.1, 0.1)) == (1, 1)


def test_jitter():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    still = augment.jitter(image, (1, 1, 1, 0))
    assert still.dtype == np.uint8 and np.abs(still.astype(int) - image).max() <= 6
    dark = augment.jitter(image, (0.5, 1, 1, 0))
    assert np.abs(dark - image / 2).max() <= 6
    grey = augment.jitter(image, (1, 1, 0, 0))
    assert (grey.max(axis=2).astype(int) - grey.min(axis=2)).max() <= 1
    flat = augment.jitter(image, (1, 0, 1, 0))
    assert flat.min() == flat.max()
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 200
    assert augment.jitter(red, (1, 1, 1, 1 / 3))[0, 0].tolist() == [0, 200, 0]
    assert augment.jitter(red, (1, 1, 1, -1 / 3))[0, 0].tolist() == [0, 0, 200]
    drawn = [augment.draw_jitter(rng, 0.3, 0.2, 0.1, 0.05) for _ in range(200)]
    assert np.allclose(np.min(drawn, 0), [0.7, 0.8, 0.9, -0.05], atol=0.02)
    assert np.allclose(np.max(drawn, 0), [1.3, 1.2, 1.1, 0.05], atol=0.02)


def test_cache_reads_a_file_once(spec, folder):
    images = Images(spec, "train", (8, 8), mask=spec.mask_folder, cache=True, mirror=True)
    expected = images[0, 0]
    os.remove(folder / "JPEGImages/a.jpg")
    same(images[0, 0], expected)
    with pytest.raises(UserError, match="image 'a' is in a list"):
        Images(spec, "train", (8, 8))[0]


def test_cache_has_an_end(spec, monkeypatch):
    monkeypatch.setattr("datalist.dataset.CACHE_LIMIT", 2 * 8 * 8 * 3)
    images = Images(spec, "train", (8, 8), cache=True)
    first = [images[index] for index in range(4)]
    assert len(images._cache) == 2
    for index in range(4):
        same(images[index], first[index])


def test_test_split_without_tags(spec, folder):
    (folder / "Annotations/e.xml").unlink()
    with pytest.raises(UserError, match=r"e\.xml"):
        Images(spec, "val")
    assert "tag" not in Images(spec, "val", tag=False)[0]


def test_labels_of_a_network(spec, folder, tmp_path):
    for name in "abcd":
        write_mask(tmp_path / f"{name}.png", np.full(SIZES[name], 2, np.uint8))
    images = Images(spec, "train", mask=tmp_path)
    assert images[1]["mask"].unique().tolist() == [2]
    write_mask(tmp_path / "b.png", np.full(SIZES["b"], 4, np.uint8))
    with pytest.raises(UserError, match=r"b\.png holds the value 4"):
        images[1]
    write_mask(tmp_path / "b.png", np.zeros((5, 5), np.uint8))
    with pytest.raises(UserError, match=r"b\.png is 5 x 5 pixels, but its image .* is 31 x 17"):
        images[1]
    (tmp_path / "b.png").unlink()
    with pytest.raises(UserError, match=r"b\.png does not exist"):
        images[1]
    with pytest.raises(UserError, match="folder of masks"):
        Images(spec, "train", mask=tmp_path / "nothing")


def test_cues_that_do_not_fit(spec):
    with pytest.raises(UserError, match=r"no cues of 1 of the 4 images of own train.*'d'"):
        Images(spec, "train", (8, 8), cue=make_cues("abc"))
    few = CueFile.collect({name: np.zeros((3, 4, 4), bool) for name in "abcd"})
    with pytest.raises(UserError, match="cues of 3 classes, own has 4"):
        Images(spec, "train", (8, 8), cue=few)


def test_photos(folder, tmp_path):
    photos = Photos(folder / "JPEGImages")
    assert photos.ids == sorted(SIZES) and len(photos) == 6
    sample = photos[1]
    assert sample.keys() == {"id", "image", "size"} and sample["image"].shape == (3, 31, 17)
    small = Photos([folder / "JPEGImages/a.jpg", folder / "JPEGImages/b.jpg"], longest=20)
    assert small[0]["image"].shape == (3, 13, 20)
    assert small[0]["size"].tolist() == [20, 30] and small[1]["size"].tolist() == [31, 17]
    assert small[1]["image"].shape == (3, 20, 11)
    (tmp_path / "a.png").write_bytes(b"")
    broken = Photos([tmp_path / "a.png", folder / "JPEGImages/b.jpg"])
    assert broken[0]["id"] == "a" and "a.png is not a readable image" in broken[0]["error"]
    assert broken[1]["image"].shape == (3, 31, 17)
    for paths, match in [
        ([tmp_path / "z.jpg"], "does not exist"),
        ([folder / "ImageSets"], "holds no pictures"),
        ([], "no pictures were given"),
    ]:
        with pytest.raises(UserError, match=match):
            Photos(paths)


def test_one_odd_file_stops_no_other(folder, tmp_path):
    source = folder / "JPEGImages/b.jpg"
    photos = tmp_path / "photos"
    (photos / "folder.jpg").mkdir(parents=True)
    (photos / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (photos / "loop.jpg").symlink_to(photos / "loop.jpg")
    os.mkfifo(photos / "pipe.jpg")
    for name in ("a:b.jpg", "what?.jpg", 'the "best".jpg', " blank.jpg", "good.jpg", "twin.jpg"):
        shutil.copy(source, photos / name)
    for name in ("twin.png", "Good one.JPG"):
        shutil.copy(folder / "JPEGImages/a.jpg", photos / name)
    data = Photos(photos)
    samples = list(DataLoader(data, batch_size=None))
    good = {"good", "Good one", "twin.jpg", "twin.png"}
    assert {s["id"] for s in samples if "error" not in s} == good
    faults = {s["id"]: s["error"] for s in samples if "error" in s}
    assert len(faults) == 8 and all(str(photos) in sentence for sentence in faults.values())
    assert "No such file" in faults["dangling"] and "is not a file" in faults["folder"]
    assert "symbolic links" in faults["loop"] and "is not a file" in faults["pipe"]
    assert "not an image id" in faults["a:b"] and "not an image id" in faults[" blank"]


def test_ids_of_pictures_differ(tmp_path):
    names = ("x/a.jpg", "y/a.jpg", "x/b.jpg", "x/b.png", "x/b.png.jpg", "z/C.png", "z/c.jpg")
    names += ("d.jpg",)
    ids = photo_ids([tmp_path / name for name in names])
    assert len({name.casefold() for name in ids}) == len(names)
    assert ids[-1] == "d" and ids[0] == "x_a.jpg" and ids[2] == "b.jpg" and ids[5] == "C.png"
    assert all(safe_id(name) for name in ids)


def test_masks_of_pictures_too_large_to_decode(folder, monkeypatch):
    monkeypatch.setattr("datalist.image.PIXEL_LIMIT", 24 * 24 - 1)
    images = Images(resolve(str(folder)), "train", mask=folder / "SegmentationClass")
    sample = images[2]
    assert sample["size"].tolist() == [24, 24]
    assert sample["image"].shape == (3, 12, 12) and sample["mask"].shape == (12, 12)


def test_photographs_of_camvid(reference):
    spec = resolve(str(reference / "camvid-objects"))
    images = Images(spec, "val", (65, 97), mask=spec.mask_folder, mirror=True)
    batch = next(iter(DataLoader(images, batch_size=8)))
    assert batch["image"].shape == (8, 3, 65, 97) and batch["tag"].shape == (8, 4)
    for tag, mask in zip(batch["tag"], batch["mask"]):
        seen = set(mask.unique().tolist()) - {0, 255}
        assert seen <= {k + 1 for k in range(4) if tag[k]}
    assert len(palette(spec.num_classes)) == 5
