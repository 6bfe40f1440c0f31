"""Pictures and tags as people have them become a folder that trains."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import own_folder
import pytest
from own_folder import picture

from base import UserError
from datalist.prepare.arrange import Arguments, arrange
from datalist.prepare.names import make_id, read_names
from datalist.prepare.pictures import may_be_background
from datalist.spec import safe_id
from datalist.tag import read_tags


@pytest.fixture
def photo(tmp_path):
    """A function that makes a picture below `photos`; another number, another picture."""

    def make(name: str, number: int = 0) -> Path:
        return picture(tmp_path / "photos" / name, number)

    return make


def arranged(tmp_path, **arguments):
    """Tags by class names of the folder that `arrange` makes, and the sentences on what it left.

    `tags` may be the text of the table.
    """
    if isinstance(text := arguments.get("tags"), str):
        arguments["tags"] = tmp_path / "t.csv"
        arguments["tags"].write_text(text, encoding="utf-8-sig")
    shutil.rmtree(tmp_path / "mine", ignore_errors=True)
    spec, left_out = own_folder.arranged(tmp_path / "photos", **arguments)
    tags = read_tags(spec, spec.ids("train"))
    for name in tags:
        assert cv2.imread(str(spec.image_path(name))) is not None
    return {k: [spec.classes[tag] for tag in row] for k, row in tags.items()}, left_out


def test_folder_per_class(tmp_path, photo):
    photo("cat/a.jpg", 1)
    photo("traffic light/a.jpg", 1)  # the same picture: two tags
    photo("cat/1.png", 2)
    photo("traffic light/1.png", 3)  # another picture of that name
    photo("cat/indoors/my cat.JPG", 4)
    photo("wall.jpg", 5)
    photo(".cache/b.jpg", 6)
    (tmp_path / "photos/cat/notes.txt").touch()
    (tmp_path / "photos/cat/b.gif").touch()
    tags, left_out = arranged(tmp_path, untagged="background")
    assert tags.pop("a") == ["cat", "traffic light"] and tags.pop("wall") == []
    assert tags == {"1": ["cat"], "traffic_light_1": ["traffic light"], "my_cat": ["cat"]}
    assert len(left_out) == 2 and "'b.gif' is a GIF: save it as PNG" in left_out[0]
    assert left_out[1].startswith("1 pictures without a tag are taken as showing none")
    assert (tmp_path / "mine/classes.txt").read_text() == "background\ncat\ntraffic light\n"
    assert read_names(tmp_path / "mine/names.csv")["my_cat"] == "cat/indoors/my cat.JPG"


def test_untagged_pictures_are_left_out_and_named(tmp_path, photo):
    photo("cat/a.jpg", 1)
    photo("dog/b.jpg", 2)
    photo("background/c.jpg", 3)  # said of this picture
    for number in range(7):
        photo(f"x{number}.jpg", 10 + number)
    tags, (sentence,) = arranged(tmp_path)
    assert tags == {"a": ["cat"], "b": ["dog"], "c": []}
    assert sentence.startswith("7 pictures without a tag are left out (--untagged background")
    assert "'x0', 'x1', 'x2', 'x3', 'x4', and 2 more" in sentence


@pytest.mark.parametrize("suffix", ["csv", "txt", "json"])
def test_table(tmp_path, photo, suffix):
    for number, name in enumerate(("x/a.jpg", "x/b.jpg", "y/c.png", "y/d.jpg")):
        photo(name, number)
    table = tmp_path / f"table.{suffix}"
    if suffix == "csv":
        table.write_text("id,tags\na.jpg,Traffic light;cat\nb,cat\nc,\nz,cat\n")
    elif suffix == "txt":
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
    tags, left_out = arranged(tmp_path, tags=table, untagged="background")
    assert tags == {"a": ["cat", "Traffic light"], "b": ["cat"], "c": []}
    assert "1 pictures are not in" in left_out[0] and "d.jpg" in left_out[0]
    assert "1 names of" in left_out[1] and "'z" in left_out[1]


EXPECTED = {"1_8_s": ["cow", "flower"], "2": ["cow"], "3": ["flower"]}
TABLES = {
    "blank after the comma": '"1_8_s.jpg", "cow", "flower"\n"2.jpg", "cow"\n"3.jpg", "flower"\n',
    "all tags in one quoted field": 'name,tags\n1_8_s.jpg,"cow, flower"\n2.jpg,cow\n3.jpg,flower\n',
    "empty fields": "1_8_s,cow,flower,\n2,cow,,\n3,,flower,\n",
    "blanks between tags": "ID,tags\n1_8_s,cow flower\n2,cow\n3,flower\n",
    "one-hot": "image,cow,flower\n1_8_s.jpg,1,1\n2.jpg,1,0\n3.jpg,0,1\n",
    "one-hot of words": "image,cow,flower\n1_8_s.jpg,True,True\n2.jpg,True,False\n3.jpg,,x\n",
    "bars": "1_8_s.jpg,cow|flower\n2.jpg,cow\n3.jpg,flower\n",
    "semicolons as separator": "1_8_s.jpg;cow;flower\n2.jpg;cow\n3.jpg;flower\n",
    "tabs": "file\tlabel\n1_8_s.jpg\tcow,flower\n2.jpg\tcow\n3.jpg\tflower\n",
    "one line per tag": "file,class\n1_8_s.jpg,cow\n1_8_s.jpg,flower\n2.jpg,cow\n3.jpg,flower\n",
    "boxes": "filename,width,height,class,xmin\n1_8_s.jpg,9,9,cow,1\n1_8_s.jpg,9,9,flower,2\n"
    "2.jpg,9,9,cow,3\n3.jpg,9,9,flower,4\n",
    "running number": ",filename,label\n0,1_8_s.jpg,cow;flower\n1,2.jpg,cow\n2,3.jpg,flower\n",
    "Windows paths": "C:\\me\\1_8_s.jpg,cow,flower\nC:\\me\\2.jpg,cow\nC:\\me\\3.jpg,flower\n",
    "folders": "a/b/1_8_s.jpg,cow,flower\na/b/2.jpg,cow\n./3.JPG,flower\n",
    "hash prefixes": "image,choice\n/data/upload/1/0a1b2c3d-1_8_s.jpg,"
    '"{""choices"": [""cow"", ""flower""]}"\n/data/upload/1/11111111-2.jpg,cow\n'
    "/data/local-files/?d=x%20y/deadbeef-3.jpg,flower\n",
    "own format": "id,tags\n1_8_s,cow;flower\n2,cow\n3,flower\n",
}


@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES)
def test_tables_as_people_have_them(tmp_path, photo, text):
    for number, name in enumerate(("1_8_s.jpg", "2.jpg", "3.jpg")):
        photo(name, number)
    tags, left_out = arranged(tmp_path, tags=text)
    assert tags == EXPECTED and not left_out


@pytest.mark.parametrize("word", ["none", "n/a", "N/A", "-", "", "NaN"])
def test_words_for_no_tag(tmp_path, photo, word):
    photo("a.jpg"), photo("b.jpg", 1)
    tags, (sentence,) = arranged(tmp_path, tags=f"a.jpg,cat\nb.jpg,{word}\n")
    assert tags == {"a": ["cat"]} and "'b'" in sentence


def test_names_with_blanks_stay_whole(tmp_path, photo):
    photo("a.jpg"), photo("b.jpg", 1), photo("c.jpg", 2)
    tags, _ = arranged(tmp_path, tags="a,traffic light\nb,cat\nc,traffic light\n")
    assert tags["a"] == ["traffic light"]


def test_two_readings_ask_for_the_layout(tmp_path, photo):
    for number in range(3):
        photo(f"{number}.jpg", number)
    table = "0.jpg,red car\n1.jpg,red bus\n2.jpg,dog\n"
    with pytest.raises(UserError, match=r"'red bus' may be .* or 2.*--layout columns .*words"):
        arranged(tmp_path, tags=table)
    assert arranged(tmp_path, tags=table, layout="words")[0]["0"] == ["car", "red"]
    assert arranged(tmp_path, tags=table, layout="columns")[0]["0"] == ["red car"]
    with pytest.raises(UserError, match=r"--layout onehot .* or --layout columns"):
        arranged(tmp_path, tags="file,label\n0.jpg,0\n1.jpg,1\n2.jpg,1\n")
    classes = tmp_path / "classes.txt"
    classes.write_text("background\nred car\nred bus\ndog\n")
    assert arranged(tmp_path, tags=table, classes=classes)[0]["0"] == ["red car"]


def test_folders_tell_pictures_of_one_name_apart(tmp_path, photo):
    photo("x/1.jpg", 1), photo("y/1.jpg", 2)
    tags, _ = arranged(tmp_path, tags="x\\1.jpg,cat\ny\\1.jpg,dog\n")
    assert tags == {"x_1": ["cat"], "y_1": ["dog"]}
    with pytest.raises(UserError, match=r"'1.jpg' may be any of 2 pictures"):
        arranged(tmp_path, tags="1.jpg,cat\n")


def test_voc_folder(tmp_path, folder):
    """Annotations are taken; a folder that is ready is refused, and masks are no class."""
    shutil.move(folder, tmp_path / "photos")
    with pytest.raises(UserError, match="is in VOC layout already"):
        arranged(tmp_path)
    (tmp_path / "photos/classes.txt").unlink()
    tags, (sentence,) = arranged(tmp_path)
    assert tags == {"a": ["cat"], "b": ["cat", "traffic light"], "c": ["dog"]}
    assert "1 pictures without a tag" in sentence and "'d'" in sentence
    shutil.rmtree(tmp_path / "photos/Annotations")
    with pytest.raises(UserError, match="JPEGImages as in VOC, but no Annotations"):
        arranged(tmp_path)


def test_folders_that_may_be_background_are_asked_about(tmp_path, photo):
    photo("scratch/a.jpg", 1), photo("no_damage/b.jpg", 2), photo("dent/c.jpg", 3)
    with pytest.raises(UserError, match=r"--background-folder .no_damage..* without a name"):
        arranged(tmp_path)
    with pytest.raises(UserError, match="has no folder 'good'"):
        arranged(tmp_path, background_folder=("good",))
    expected = {"a": ["scratch"], "b": [], "c": ["dent"]}
    assert arranged(tmp_path, background_folder=("no_damage",))[0] == expected
    assert arranged(tmp_path, background_folder=())[0]["b"] == ["no_damage"]


@pytest.mark.parametrize(
    "name", ["good", "Normal", "Tomato___healthy", "no_damage", "NoDamage", "not defect", "OK"]
)
def test_names_that_deny(name):
    assert may_be_background(name)
    assert not may_be_background("cat") and not may_be_background("notebook")


@pytest.mark.parametrize("top", ["set", "train", "images/training_set"])
def test_folders_that_hold_all_others_are_passed(tmp_path, photo, top):
    photo(f"{top}/cat/a.jpg", 1), photo(f"{top}/dog/b.jpg", 2)
    assert arranged(tmp_path)[0] == {"a": ["cat"], "b": ["dog"]}


@pytest.mark.parametrize(
    "parts", [("train", "val"), ("images/train", "images/val"), ("training_set", "test_set")]
)
def test_parts_of_a_data_set_are_asked_about(tmp_path, photo, parts):
    for number, part in enumerate(parts):
        photo(f"{part}/cat/{number}.jpg", number), photo(f"{part}/dog/d{number}.jpg", 9 + number)
    with pytest.raises(UserError, match=r"parts of a data set .*, not classes.* give one of them"):
        arranged(tmp_path)


def test_a_class_may_be_called_train(tmp_path, photo):
    photo("train/a.jpg", 1), photo("bus/b.jpg", 2)
    assert arranged(tmp_path)[0] == {"a": ["train"], "b": ["bus"]}


def test_masks_beside_their_pictures_are_not_pictures(tmp_path, photo):
    for number, name in enumerate(("x (1)", "x (1)_mask", "x (1)_mask_1", "my_mask")):
        photo(f"cyst/{name}.png", number)
    tags, (note,) = arranged(tmp_path)
    assert set(tags) == {make_id("x (1)"), "my_mask"} and note.startswith("2 files are masks")


def test_equal_pictures_share_tags_beside_another_of_their_name(tmp_path, photo):
    photo("bird/1.jpg", 1), photo("cat/1.jpg", 2), photo("dog/1.jpg", 2)
    assert arranged(tmp_path)[0] == {"1": ["bird"], "cat_1": ["cat", "dog"]}


def test_voc_names_that_become_one_id_are_refused(tmp_path, folder):
    shutil.move(folder, tmp_path / "photos")
    for part, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        for name in ("a b", "a_b"):
            file = tmp_path / "photos" / part / f"a.{suffix}"
            shutil.copy(file, file.with_name(f"{name}.{suffix}"))
    shutil.rmtree(tmp_path / "photos/ImageSets")
    with pytest.raises(UserError, match="would both be 'a_b': rename one"):
        arranged(tmp_path)


def test_a_comma_in_a_class_folder_is_said(tmp_path, photo):
    photo("Pepper,_bell/a.jpg", 1), photo("Apple/b.jpg", 2)
    tags, (note,) = arranged(tmp_path)
    assert tags == {"a": ["Pepper bell"], "b": ["Apple"]} and "'Pepper,_bell'" in note


def test_names_that_headers_have(tmp_path, photo):
    photo("cat/image.jpg", 1), photo("dog/id.jpg", 2)
    assert arranged(tmp_path)[0] == {"image": ["cat"], "id": ["dog"]}


def test_two_names_that_meet_at_one_picture_stop(tmp_path, photo):
    photo("0001.jpg", 1)
    with pytest.raises(UserError, match=r"'train/0001.jpg' and 'test/0001.jpg' would both"):
        arranged(tmp_path, tags="train/0001.jpg,cat\ntest/0001.jpg,dog\n")


def test_lost_zeros_are_said(tmp_path, photo):
    photo("0001.jpg", 1), photo("0012.jpg", 2)
    tags, (note,) = arranged(tmp_path, tags="image,label\n1,cat\n12,dog\n")
    assert tags == {"0001": ["cat"], "0012": ["dog"]}
    assert note.startswith("2 names of") and "have lost the zeros" in note


def test_given_classes_keep_their_order(tmp_path, photo):
    photo("dog/a.jpg")
    classes = tmp_path / "classes.txt"
    classes.write_text("background\ndog\ncat\n")
    assert arranged(tmp_path, classes=classes)[0] == {"a": ["dog"]}
    assert (tmp_path / "mine/classes.txt").read_text() == "background\ndog\ncat\n"


def test_refusals_leave_nothing(tmp_path, photo):
    def refused(match, **arguments):
        with pytest.raises(UserError, match=match):
            arrange(Arguments(tmp_path / "photos", tmp_path / "mine", **arguments))
        assert not [p for p in tmp_path.iterdir() if "mine" in p.name]

    refused("is not a folder")
    (tmp_path / "photos").mkdir()
    refused("holds no picture")
    photo("a.jpg")
    refused("no picture of .* has a tag")
    photo("cat;dog/b.jpg")
    refused(r"'cat;dog' is not a class name")
    (tmp_path / "photos/cat;dog").rename(tmp_path / "photos/cat")
    classes, table = tmp_path / "classes.txt", tmp_path / "t.csv"
    refused("t.csv does not exist", tags=table)
    classes.write_text("background\ndog\n")
    refused(r"b\.jpg: 'cat' is not one of the classes", classes=classes)
    table.write_text("z,cat\n")
    refused(r"t\.csv names none of the pictures", tags=table)
    table.write_text("name,cat,dog\na,1,2\n")
    refused("holds 0 and 1, not '2'", tags=table, layout="onehot")
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match="exists already"):
        arrange(Arguments(tmp_path / "photos", tmp_path / "mine.txt"))


def test_ids_are_safe():
    for name in ("..", "a b", "a/b", "ü (1)", "", "x" * 300, "a\tb\n", "😀", "._."):
        image_id = make_id(name)
        assert safe_id(image_id) and " " not in image_id


def test_command_says_what_was_understood(tmp_path, photo):
    for number in range(4):
        photo(f"{number}.jpg", number)
    table = tmp_path / "t.csv"
    table.write_text("0.jpg;cat\n1.jpg;dog\n2.jpg;cat\n3.jpg;dog\n")
    command = [sys.executable, "-m", "datalist.prepare.arrange", str(tmp_path / "photos")]
    command += ["--tags", str(table), "--out", str(tmp_path / "mine")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("ready to train\n"), done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "separator: semicolon; layout: columns; 4 lines"
    assert lines[1] == "classes (2): cat 2, dog 2" and lines[2] == "  0.jpg -> cat"
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and not done.stdout
