import subprocess
import sys

import numpy as np
import pytest
from own_folder import SIZES, TAGS

from datalist.check import Arguments as CheckArguments
from datalist.check import inspect, main
from datalist.image import write_mask
from datalist.spec import resolve


def tags(folder, **changed):
    names = ["background", "cat", "traffic light", "dog"]
    rows = {**TAGS, **changed}
    lines = [",".join([name, *(names[k] for k in row)]) for name, row in rows.items()]
    (folder / "tags.csv").write_text("\n".join(lines) + "\n")


def test_a_sound_folder(folder):
    report = inspect(resolve(str(folder)))
    assert not report.errors and not report.warnings
    assert report.lines[0] == "own: 4 classes: background, cat, traffic light, dog"
    assert "train: 4 images of 9 x 17 to 31 x 40 pixels (height x width), 4 masks" in report.lines
    assert "tags of train: 1.00 an image, 1 images without" in report.lines
    rows = [" ".join(line.split()) for line in report.lines]
    assert "cat 2 images 50.0 % with traffic light in 50 % of them" in rows


def test_class_in_every_image(folder):
    tags(folder, **dict.fromkeys("ac", (1, 3)), b=(1,), d=(1, 2))
    (warning,) = inspect(resolve(str(folder))).warnings
    assert warning.startswith("'cat' is in every train image, so tags do not tell it from")


def test_classes_that_only_come_together(folder):
    tags(folder, a=(1, 2), b=(3,), c=(1, 2), d=())
    (warning,) = inspect(resolve(str(folder))).warnings
    assert warning.startswith("'cat' and 'traffic light' only ever come together")


def test_class_that_never_comes(folder):
    tags(folder, b=(1,))
    (warning,) = inspect(resolve(str(folder))).warnings
    assert warning == "'traffic light' is in no train image: it will never be predicted."


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
    assert "1 of 3 val images have no mask, such as 'f'" in warnings
    assert "1 images are in both train and val, such as 'a'" in warnings
    assert str(report).endswith("7 errors: not ready")


def test_images_in_no_list(folder):
    image = folder / "JPEGImages/a.jpg"
    (folder / "JPEGImages/new.JPG").write_bytes(image.read_bytes())
    (warning,) = inspect(resolve(str(folder))).warnings
    assert warning.startswith("1 images are in no list, such as ") and "new.JPG" in warning


def test_many_mistakes_stay_short(folder):
    names = [f"x{k}" for k in range(40)]
    (folder / "ImageSets/Segmentation/val.txt").write_text("\n".join(names))
    report = inspect(resolve(str(folder)), ["val"])
    assert len(report.errors) == 6 and report.errors[-1] == "... and 35 more of this kind."


def test_no_tags_at_all(folder):
    tags(folder, **dict.fromkeys("abcd", ()))
    assert any("nothing to learn from" in error for error in inspect(resolve(str(folder))).errors)


def test_exit_status(folder, capsys):
    assert main(CheckArguments(str(folder))) == 0
    assert capsys.readouterr().out.endswith("ready to train\n")
    (folder / "ImageSets/Segmentation/train.txt").unlink()
    assert main(CheckArguments(str(folder))) == 1
    assert "has no split 'train'" in capsys.readouterr().out
    assert main(CheckArguments(str(folder / "JPEGImages"))) == 1


@pytest.mark.parametrize("broken", [False, True])
def test_command(folder, broken):
    if broken:
        (folder / "JPEGImages/b.jpg").write_bytes(b"")
    command = [sys.executable, "-m", "datalist.check", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == broken and "Traceback" not in done.stderr
    assert done.stdout.startswith("own: 4 classes")


def test_camvid(reference):
    report = inspect(resolve(str(reference / "camvid-objects")), threads=2)
    assert not report.errors and not report.warnings
    assert "train: 983 images of 180 x 160 pixels (height x width), 983 masks" in report.lines
