import subprocess
import sys

import cv2
import numpy as np
import pytest
from own_folder import SIZES, TAGS

from base import UserError
from datalist.image import write_mask
from datalist.prepare import check
from datalist.prepare.check import Arguments as CheckArguments
from datalist.prepare.check import inspect, main
from datalist.spec import resolve


def tags(folder, **changed):
    names = ["background", "cat", "traffic light", "dog"]
    rows = {**TAGS, **changed}
    lines = [",".join([name, *(names[k] for k in row)]) for name, row in rows.items()]
    (folder / "tags.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """The folder of the tests has fewer images of each class than a check asks for."""
    monkeypatch.setattr(check, "FEW", 0)


def test_a_sound_folder(folder):
    report = inspect(resolve(str(folder)))
    assert not report.errors and not report.warnings
    assert report.lines[0] == "own: 4 classes: background, cat, traffic light, dog"
    assert "train: 4 images of 9 x 17 to 31 x 40 pixels (height x width), 4 masks" in report.lines
    assert "tags of train: 1.00 an image, 1 images without" in report.lines
    rows = [" ".join(line.split()) for line in report.lines]
    assert "cat 2 images 50.0 % with traffic light in 50 % of them" in rows


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {**dict.fromkeys("ac", (1, 3)), "b": (1,), "d": (1, 2)},
            "'cat' is in every train image, so tags do not tell it from",
        ),
        (
            {"a": (1, 2), "b": (3,), "c": (1, 2), "d": ()},
            "'cat' and 'traffic light' only ever come together",
        ),
        ({"b": (1,)}, "'traffic light' is in no train image: it will never be predicted."),
    ],
)
def test_classes_that_are_hardly_learned(folder, changed, sentence):
    tags(folder, **changed)
    (warning,) = inspect(resolve(str(folder))).warnings
    assert warning.startswith(sentence)


def test_everything_that_is_wrong_is_listed(folder):
    (folder / "JPEGImages/a.jpg").write_bytes((folder / "JPEGImages/a.jpg").read_bytes()[:-300])
    (folder / "JPEGImages/b.jpg").unlink()
    write_mask(folder / "SegmentationClass/c.png", np.full(SIZES["c"], 9, np.uint8))
    write_mask(folder / "SegmentationClass/e.png", np.zeros((3, 3), np.uint8))
    (folder / "SegmentationClass/f.png").unlink()
    (folder / "Annotations/c.xml").write_text("<annotation>")
    (folder / "Annotations/d.xml").unlink()
    (folder / "ImageSets/Segmentation/val.txt").write_text("a\ne\nf\n")
    report = inspect(resolve(str(folder)), threads=2)
    errors, warnings = "\n".join(report.errors), "\n".join(report.warnings)
    for text in (
        "a.jpg is cut off",
        "image 'b' is in a list",
        "c.png holds the value 9",
        "c.xml is not readable XML",
        "d.xml: No such file",
        "e.png is 3 x 3, its image 24 x 24",
    ):
        assert text in errors
    assert "1 of 3 val images have no mask in" in errors and "such as 'f'" in errors
    assert "1 images are in both train and val, such as 'a'" in warnings
    assert str(report).endswith("8 errors: not ready")


def test_images_in_no_list(folder):
    image = folder / "JPEGImages/a.jpg"
    (folder / "JPEGImages/new.JPG").write_bytes(image.read_bytes())
    (warning,) = inspect(resolve(str(folder))).warnings
    assert warning.startswith("1 images are in no list, such as ") and "new.JPG" in warning


def test_every_fault_is_named_in_groups(folder):
    lists = folder / "ImageSets/Segmentation"
    (lists / "train.txt").write_text("a\na b c\n../x\nb\nb\nc\nd\nz1\nz2\n")
    (lists / "val.txt").write_text("\n".join(f"x{k}" for k in range(40)) + "\n")
    names = "id,tags\na,cow\nb,cat;horse\n/c,dog\nd,dog\nd,cat\n"
    (folder / "tags.csv").write_text(names)
    report = inspect(resolve(str(folder)))
    count = {name: len(sentences) for name, sentences in report.groups.items()}
    # The line 'd,cat' comes second; a, b, c and the two without a picture have no tags.
    assert count == {"lists": 3, "tags": 5, "images": 42, "masks": 1}
    text = str(report)
    places = [text.index(f"{number} errors in {name}:") for name, number in list(count.items())[:3]]
    assert places == sorted(places) and text.endswith("51 errors: not ready")
    for words in ("train.txt, line 2", "line 3", "line 5: id 'b' was already on line 4", "'x39'"):
        assert words in text
    assert "has no tags of 5 images: a, b, c, z1, z2" in text


def test_val_without_masks_is_not_ready(folder):
    for name in "ef":
        (folder / f"SegmentationClass/{name}.png").unlink()
    report = inspect(resolve(str(folder)))
    (error,) = report.errors
    assert error.startswith("2 of 2 val images have no mask in") and "remove" in error


def test_classes_of_few_images(folder, monkeypatch):
    monkeypatch.setattr(check, "FEW", 8)
    warnings = inspect(resolve(str(folder))).warnings
    assert "'cat' is in 2 train images: too few to learn it, add some (8 at least)." in warnings
    assert any(line.startswith("'dog' is in one train image: too few") for line in warnings)


def test_memory_of_large_pictures(folder):
    cv2.imwrite(str(folder / "JPEGImages/a.jpg"), np.zeros((3000, 4000, 3), np.uint8))
    write_mask(folder / "SegmentationClass/a.png", np.zeros((3000, 4000), np.uint8))
    lines = inspect(resolve(str(folder))).lines
    line = next(line for line in lines if line.startswith("largest picture"))
    assert "3000 x 4000 (12 megapixels)" in line
    assert "about 0.7 GB for it at 2 megapixels" in line and "would take 4.0 GB" in line


def test_no_tags_at_all(folder):
    tags(folder, **dict.fromkeys("abcd", ()))
    assert any("nothing to learn from" in error for error in inspect(resolve(str(folder))).errors)


def test_exit_status(folder, capsys):
    assert main(CheckArguments(str(folder))) == 0
    assert capsys.readouterr().out.endswith("ready to train\n")
    (folder / "ImageSets/Segmentation/train.txt").unlink()
    assert main(CheckArguments(str(folder))) == 1
    assert "has no split 'train'" in capsys.readouterr().out
    with pytest.raises(UserError, match="has no folder JPEGImages"):
        main(CheckArguments(str(folder / "JPEGImages")))


@pytest.mark.parametrize("changed", [{"d": (1,), "c": (1, 3)}, {"a": (1, 2), "b": (1, 2)}])
def test_classes_that_tags_do_not_tell_apart_stop(folder, capsys, changed):
    tags(folder, **changed)
    assert main(CheckArguments(str(folder))) == 1
    assert "cannot be learned as it is" in capsys.readouterr().out.splitlines()[-1]
    assert main(CheckArguments(str(folder), go_on=True)) == 0


@pytest.mark.parametrize("broken", [False, True])
def test_command(folder, broken):
    if broken:
        (folder / "JPEGImages/b.jpg").write_bytes(b"")
    command = [sys.executable, "-m", "datalist.prepare.check", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == broken and "Traceback" not in done.stderr
    assert done.stdout.startswith("own: 4 classes")


def test_camvid(reference):
    report = inspect(resolve(str(reference / "camvid-objects")), threads=2)
    assert not report.errors and not report.warnings
    assert "train: 983 images of 180 x 160 pixels (height x width), 983 masks" in report.lines
