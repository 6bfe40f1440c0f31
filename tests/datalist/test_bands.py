"""Pictures of more than 8 bits or other bands than R, G, B: chosen, measured, stored, read."""

import json

import cv2
import numpy as np
import own_folder
import pytest
import tifffile
from own_folder import make_folder
from PIL import Image

from base import UserError
from datalist.bands import Bands, read_bands
from datalist.dataset import Images, Photos
from datalist.image import read_image
from datalist.prepare.bands import Arguments as BandArguments
from datalist.prepare.bands import main
from datalist.prepare.check import inspect
from datalist.spec import resolve

RNG = np.random.default_rng(5)


def texture(size=(40, 50), channels=3):
    low = RNG.random((5, 6, channels))
    return cv2.resize(low, size[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)


def class_folders(root, write, count=3):
    for tag in ("cat", "dog"):
        (root / tag).mkdir(parents=True)
        for number in range(count):
            write(root / tag / f"{tag}{number}", texture())
    return root


def arranged(tmp_path, *bands):
    return own_folder.arranged(tmp_path / "photos", bands=bands)


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_few_bits_of_16_keep_their_grey_levels(tmp_path, bits, suffix):
    def write(path, image):
        values = (image * (2**bits - 1)).round().astype(np.uint16)
        if suffix == ".png":
            cv2.imwrite(f"{path}.png", values[..., ::-1])
        else:
            tifffile.imwrite(f"{path}.tif", values, photometric="rgb")

    class_folders(tmp_path / "photos", write)
    spec, notes = arranged(tmp_path)
    assert any("6 of 6 pictures have more than 8 bits a value" in note for note in notes)
    for name in spec.ids("train"):
        image = read_image(spec.image_path(name), spec.bands)
        assert len(np.unique(image)) > 150 and image.max() > 200 and image.min() < 50
    assert not inspect(spec).errors
    sample = Images(spec, "train")[0]["image"].numpy().transpose(1, 2, 0)
    photo = Photos([spec.image_path(spec.ids("train")[0])], bands=spec.bands)[0]["image"].numpy()
    assert np.array_equal(sample, photo.transpose(1, 2, 0))
    with pytest.raises(UserError, match=f"uses {bits} of its 16 bits a channel, and no range"):
        read_image(spec.image_path("cat0"))


def test_a_folder_in_the_layout_is_measured_by_a_command(tmp_path, capsys):
    root = make_folder(tmp_path / "own")
    for path in list((root / "JPEGImages").iterdir()):
        grey = (read_image(path)[..., 0].astype(np.uint16) << 4) + 3
        path.unlink()
        cv2.imwrite(str(path.with_suffix(".png")), grey)
    errors = inspect(resolve(str(root))).errors
    assert all("run `python -m datalist.prepare.bands FOLDER`" in error for error in errors)
    assert len(errors) == 2 and "(and 3 images more)" in errors[0]  # one of each list
    main(BandArguments(root))
    assert "become 0 to 255" in capsys.readouterr().out
    report = inspect(resolve(str(root)))
    assert not report.errors and report.lines[1].endswith("become 0 to 255 (bands.json)")


def test_all_16_bits_are_read_without_a_range(tmp_path):
    values = (texture() * 65535).round().astype(np.uint16)
    values[0, 0] = 65535
    cv2.imwrite(str(tmp_path / "a.png"), values[..., ::-1])
    expected = np.rint(values / 257).astype(np.uint8)
    assert np.array_equal(read_image(tmp_path / "a.png"), expected)


def infrared(path, image):
    values = (np.dstack([image, texture(channels=1)]) * 200 + 20).astype(np.uint8)
    Image.fromarray(values, "RGBA").save(f"{path}.png")


def test_a_fourth_channel_is_asked_for(tmp_path):
    class_folders(tmp_path / "photos", infrared)
    with pytest.raises(
        UserError, match=r"for 6 pictures bands must be chosen: .*fourth channel that is not trans"
    ):
        arranged(tmp_path)
    assert not (tmp_path / "mine").exists()
    file = tmp_path / "photos/cat/cat0.png"
    with pytest.raises(UserError, match=r"cat0\.png has a fourth channel .* --bands 1 2 3"):
        read_image(file)
    stored = np.array(Image.open(file))
    spec, notes = arranged(tmp_path, "1", "2", "3")
    assert np.array_equal(read_image(spec.image_path("cat0"), spec.bands), stored[..., :3])
    (tmp_path / "mine").rename(tmp_path / "three")
    spec, notes = arranged(tmp_path, "4", "1", "2")
    assert "channels are the bands 4 1 2" in notes[-1]
    assert np.array_equal(read_image(spec.image_path("cat0"), spec.bands), stored[..., [3, 0, 1]])


def test_transparency_is_no_band(tmp_path):
    def cutout(path, image):
        values = (np.dstack([image, image[..., :1] > 0.4]) * 255).astype(np.uint8)
        Image.fromarray(values, "RGBA").save(f"{path}.png")

    class_folders(tmp_path / "photos", cutout)
    spec, notes = arranged(tmp_path)
    assert spec.bands == Bands() and not notes and not (spec.root / "bands.json").exists()


def test_all_bands_with_mean_and_deviation(tmp_path):
    def satellite(path, image):
        values = np.dstack([image, texture(), texture()]) * np.arange(1, 10) * 300
        tifffile.imwrite(f"{path}.tif", values.astype(np.uint16), planarconfig="contig")

    class_folders(tmp_path / "photos", satellite)
    spec, _ = arranged(tmp_path, "all")
    bands = read_bands(spec.root / "bands.json")
    assert bands == spec.bands and bands.index == tuple(range(1, 10)) and bands.channels == 9
    assert np.all(np.diff(bands.high) > 100)  # a range for each
    images = [read_image(spec.image_path(name), bands) for name in spec.ids("train")]
    values = np.concatenate([image.reshape(-1, 9) for image in images])
    assert np.allclose(values.mean(0), bands.mean, atol=0.5)
    assert np.allclose(values.std(0), bands.deviation, atol=0.5)
    options = {"size": (32, 32), "mirror": True, "jitter": (0.2, 0.2, 0.2, 0.1)}
    for mode, more in (
        ("warp", {}), ("window", {"window": (0.2, 0.5)}),
        ("crop", {"scale": (0.5, 1.5), "fill": (0,) * 9}),
    ):  # fmt: skip
        sample = Images(spec, "train", mode=mode, **options, **more)[1]
        assert tuple(sample["image"].shape) == (9, 32, 32)
    assert Photos([spec.image_path("cat0")], 20, bands)[0]["image"].shape[0] == 9
    # Colours change, other bands do not.
    plain = Images(spec, "train", size=(40, 50))[1]["image"]
    changed = Images(spec, "train", size=(40, 50), jitter=(0.2, 0.2, 0.2, 0.1))[1]["image"]
    assert (plain[3:] == changed[3:]).all() and (plain[:3] != changed[:3]).any()


def test_wrong_bands_are_refused(tmp_path):
    class_folders(tmp_path / "photos", infrared)
    for words, sentence in (
        (("1", "2", "7"), "has 4 bands"), (("1", "2"), "are not possible"),
        (("0", "1", "2"), "are not possible"), (("red",), "numbers from 1, or all"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=sentence):
            arranged(tmp_path, *words)
        assert not (tmp_path / "mine").exists()
    Image.new("RGB", (30, 30)).save(tmp_path / "photos/cat/x.jpg")
    with pytest.raises(UserError, match=r"as many bands, but there are 1 with 3 bands.*6 with 4"):
        arranged(tmp_path, "all")


@pytest.mark.parametrize(
    "change",
    [
        {"index": [1, 2]}, {"low": [1]}, {"low": [2], "high": [1]}, {"index": "123"},
        {"mean": [1, 2], "deviation": [1, 2]}, {"index": [1.5, 2, 3]},
        {"low": [None], "high": [2]},
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused(tmp_path, change):
    whole = {"index": [], "low": [], "high": [], "mean": [], "deviation": []}
    path = tmp_path / "bands.json"
    path.write_text(json.dumps(whole))
    assert read_bands(path) == Bands()
    for content in (json.dumps(whole | change), "{", "[]", json.dumps({"index": []})):
        path.write_text(content)
        with pytest.raises(UserError, match=r"bands\.json"):
            read_bands(path)
