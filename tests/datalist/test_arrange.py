"""Pictures and tags as people have them become a folder that trains."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from base import UserError
from datalist.arrange import Arguments, arrange, make_id
from datalist.spec import resolve, safe_id
from datalist.tag import read_tags


@pytest.fixture
def photo(tmp_path):
    """A function that makes a picture below `photos`; another number, another picture."""

    def make(place: str, number: int = 0) -> Path:
        path = tmp_path / "photos" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(number).integers(0, 255, (9, 12, 3), np.uint8)
        cv2.imwrite(str(path), image)
        return path

    return make


def made(tmp_path, **arguments):
    """Tags by class names of the folder that was made, and what was left out."""
    remarks = arrange(Arguments(tmp_path / "photos", tmp_path / "mine", **arguments))
    spec = resolve(str(tmp_path / "mine"))
    found = read_tags(spec, spec.ids("train"))
    for name in found:
        assert cv2.imread(str(spec.image_path(name))) is not None
    return {k: [spec.classes[tag] for tag in row] for k, row in found.items()}, remarks


def test_folder_per_class(tmp_path, photo):
    photo("cat/a.jpg", 1)
    photo("traffic light/a.jpg", 1)  # the same picture: two tags
    photo("cat/1.png", 2)
    photo("traffic light/1.png", 3)  # another picture of that name
    photo("cat/indoors/my cat.JPG", 4)
    photo("wall.jpg", 5)
    photo(".cache/b.jpg", 6)
    (tmp_path / "photos/cat/notes.txt").touch()
    (tmp_path / "photos/cat/b.webp").touch()
    tags, remarks = made(tmp_path)
    assert tags == {
        "a": ["cat", "traffic light"],
        "1": ["cat"],
        "traffic_light_1": ["traffic light"],
        "my_cat": ["cat"],
        "wall": [],
    }
    assert len(remarks) == 1 and "b.webp" in remarks[0]
    assert (tmp_path / "mine/classes.txt").read_text() == "background\ncat\ntraffic light\n"


@pytest.mark.parametrize("kind", ["csv", "txt", "json"])
def test_table(tmp_path, photo, kind):
    for number, place in enumerate(("x/a.jpg", "x/b.jpg", "y/c.png", "y/d.jpg")):
        photo(place, number)
    table = tmp_path / f"table.{kind}"
    if kind == "csv":
        table.write_text("id,tags\na.jpg,Traffic light;cat\nb,cat\nc,\nz,cat\n")
    elif kind == "txt":
        table.write_text("a Traffic_light cat\nb cat\nc\nz cat\n")
    else:
        names = ["x/a.jpg", "x/b.jpg", "c.png", "z.jpg"]
        pairs = [(0, 5), (0, 2), (1, 2), (3, 2)]
        content = {
            "images": [{"id": k, "file_name": name} for k, name in enumerate(names)],
            "annotations": [{"image_id": k, "category_id": c} for k, c in pairs],
            "categories": [{"id": 2, "name": "cat"}, {"id": 5, "name": "Traffic light"}],
        }
        table.write_text(json.dumps(content))
    tags, remarks = made(tmp_path, tags=table)
    assert tags == {"a": ["cat", "Traffic light"], "b": ["cat"], "c": []}
    assert "1 pictures are not in" in remarks[0] and "d.jpg" in remarks[0]
    assert "1 names of" in remarks[1] and "'z'" in remarks[1]


def test_given_classes_keep_their_order(tmp_path, photo):
    photo("dog/a.jpg")
    classes = tmp_path / "classes.txt"
    classes.write_text("background\ndog\ncat\n")
    assert made(tmp_path, classes=classes)[0] == {"a": ["dog"]}
    assert (tmp_path / "mine/classes.txt").read_text() == "background\ndog\ncat\n"


def test_refusals_leave_nothing(tmp_path, photo):
    def refused(match, **arguments):
        with pytest.raises(UserError, match=match):
            arrange(Arguments(tmp_path / "photos", tmp_path / "mine", **arguments))
        assert not [p for p in tmp_path.iterdir() if "mine" in p.name]

    refused("holds no picture")
    photo("a.jpg")
    refused(r"mine/classes\.txt holds 1 names")
    photo("cat;dog/b.jpg")
    refused(r"'cat;dog' is not a class name")
    (tmp_path / "photos/cat;dog").rename(tmp_path / "photos/cat")
    classes, table = tmp_path / "classes.txt", tmp_path / "t.csv"
    classes.write_text("background\ndog\n")
    refused(r"b\.jpg: 'cat' is not one of the classes", classes=classes)
    table.write_text("z,cat\n")
    refused(r"t\.csv names none of the pictures", tags=table)
    photo("dog/b.jpg", 9)
    table.write_text("b,cat\n")
    refused("would both be 'b'", tags=table)
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match="is there already"):
        arrange(Arguments(tmp_path / "photos", tmp_path / "mine.txt"))


def test_ids_are_safe():
    for name in ("..", "a b", "a/b", "ü (1)", "", "x" * 300, "a\tb\n", "😀", "._."):
        found = make_id(name)
        assert safe_id(found) and " " not in found


def test_command_says_what_is_there(tmp_path, photo):
    for number in range(4):
        photo(f"{'cat' if number % 2 else 'dog'}/{number}.jpg", number)
    command = [sys.executable, "-m", "datalist.arrange", str(tmp_path / "photos")]
    command += ["--out", str(tmp_path / "mine")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("ready to train\n"), done.stderr
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout.startswith("error: ") and not done.stderr
