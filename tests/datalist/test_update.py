"""A folder of pictures that changes after it was arranged."""

import csv
import os
import shutil

import numpy as np
import pytest
from own_folder import picture
from PIL import Image

from base import UserError
from datalist.image import write_mask
from datalist.prepare import update
from datalist.spec import resolve
from datalist.tag import read_tags, wrong_masks


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "my photos"
    for number, name in enumerate(("cat/a", "cat/b", "dog/c", "dog/d")):
        picture(folder / f"{name}.png", number)
    return folder


def bring(folder, *flags):
    """Arrange the folder or bring its data set up to date; gives the data set."""
    data = folder.parent / "out/data"
    words = [str(folder), "--out", str(data), *flags]
    update.update(*update.read_arguments(words))
    return data


def words_of(data):
    return update.tag_words(resolve(str(data)))


def correct(data, name, tags):
    """Write other tags of a picture into tags.csv, as people do."""
    rows = dict(csv.reader((data / "tags.csv").read_text().splitlines()[1:]))
    rows[name] = tags
    with open(data / "tags.csv", "w", newline="") as file:
        csv.writer(file).writerows([("id", "tags"), *rows.items()])


def test_an_unchanged_folder_is_left_alone(photos, capsys):
    data = bring(photos)
    before = {path: path.stat().st_ino for path in data.rglob("*")}
    capsys.readouterr()
    bring(photos)
    assert "4 pictures, none changed" in capsys.readouterr().out
    os.utime(photos / "cat/a.png")  # touched, with the same content
    bring(photos)
    assert "none changed" in capsys.readouterr().out
    after = {path: path.stat().st_ino for path in data.rglob("*")}
    del before[data / update.RECORD], after[data / update.RECORD]
    assert after == before and not (data.parent / update.CHANGED).exists()


def test_added_removed_replaced_and_moved_pictures(photos, capsys):
    data = bring(photos)
    correct(data, "a", "cat;dog")
    correct(data, "c", "background")
    for number in range(3):
        write_mask(data / f"SegmentationClass/{'abc'[number]}.png", np.full((9, 12), 1, np.uint8))
    capsys.readouterr()
    picture(photos / "ant/new.png", 10)  # a class before the others in the alphabet
    picture(photos / "dog/c.png", 11, (20, 20))
    (photos / "dog/d.png").unlink()
    os.rename(photos / "cat/a.png", photos / "cat/first.png")
    shutil.move(photos / "cat/b.png", photos / "dog/b.png")
    bring(photos)
    printed = capsys.readouterr().out
    for part in (
        "1 pictures added: 'ant/new.png'", "1 pictures removed: 'dog/d.png'",
        "1 pictures replaced: 'dog/c.png'", "2 pictures moved or renamed: 'dog/b.png', 'cat/first",
        "1 pictures with other tags in the folder: 'dog/b.png'",
        "tags of 2 pictures that were corrected",
    ):  # fmt: skip
        assert part in printed, printed
    assert words_of(data) == {"first": ("cat", "dog"), "b": ("dog",), "c": (), "new": ("ant",)}
    # Masks keep the meaning of their numbers, and the one of the replaced picture is not used.
    assert resolve(str(data)).classes == ("background", "cat", "dog", "ant")
    masks = sorted(path.name for path in (data / "SegmentationClass").iterdir())
    assert masks == ["b.png", "first.png"] and "SegmentationClass/c.png" in printed
    assert Image.open(data / "JPEGImages/c.png").size == (20, 20)
    old = data.parent / "old-1/data"
    assert (old / "SegmentationClass/c.png").is_file() and (old / "JPEGImages/d.png").is_file()
    assert (data.parent / update.CHANGED).is_file()


def test_marks_of_wrong_masks_stay(photos):
    data = bring(photos)
    (data / "tags.csv").write_text("id,tags,mask\na,cat,wrong\nb,cat,\nc,dog,wrong\nd,dog,\n")
    picture(photos / "dog/c.png", 11)
    bring(photos)
    assert wrong_masks(resolve(str(data))) == {"a"}  # c is another picture now


def test_lists_that_people_changed_stay(photos):
    data = bring(photos)
    lists = data / "ImageSets/Segmentation"
    (lists / "train.txt").write_text("a\nc\n")  # d is left out
    (lists / "val.txt").write_text("b\n")
    picture(photos / "dog/e.png", 10)
    bring(photos)
    spec = resolve(str(data))
    assert spec.ids("train") == ["a", "c", "e"] and spec.ids("val") == ["b"]
    assert read_tags(spec, ["e"]) == {"e": (2,)}


def test_flags_of_the_first_time_are_kept(photos, tmp_path, capsys):
    picture(photos / "loose.png", 10)
    data = bring(photos, "--untagged", "background")
    assert words_of(data)["loose"] == ()
    picture(photos / "cat/e.png", 11)
    bring(photos)
    assert {"loose", "e"} < set(words_of(data))
    bring(photos, "--untagged", "skip")
    assert "loose" not in words_of(data)


def test_a_data_set_without_a_record_keeps_its_tags(photos, capsys):
    data = bring(photos)
    (data / update.RECORD).unlink()
    correct(data, "a", "dog")
    bring(photos)
    assert "no record of its pictures" in capsys.readouterr().out
    assert words_of(data)["a"] == ("dog",) and not (data.parent / "old-1").exists()
    (data / update.RECORD).unlink()
    picture(photos / "cat/a.png", 12)
    bring(photos)
    assert "1 pictures replaced: 'cat/a.png'" in capsys.readouterr().out
    assert words_of(data)["a"] == ("dog",)


def test_another_folder_of_the_same_name_is_refused(photos, tmp_path):
    data = bring(photos)
    other = tmp_path / "elsewhere"
    for number, name in enumerate(("cat/x", "dog/y")):
        picture(other / f"{name}.png", 20 + number)
    words = [str(other), "--out", str(data)]
    with pytest.raises(UserError, match="give another OUT"):
        update.update(*update.read_arguments(words))
    assert set(words_of(data)) == set("abcd")


def test_a_stop_between_two_renamings_loses_nothing(photos):
    data = bring(photos)
    correct(data, "a", "dog")
    os.replace(data, data.with_name(".data.new"))
    bring(photos)
    assert words_of(data)["a"] == ("dog",)
