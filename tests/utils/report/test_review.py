"""The report of images without true masks: its numbers, and corrections of tags in a browser."""

import csv
import json
import re
import shutil
from time import monotonic, sleep

import numpy as np
import pytest
from browsing import ask, check_page, find
from PIL import Image

from base import UserError
from datalist.prepare import arrange
from datalist.spec import resolve
from datalist.tag import read_tags
from utils import measure
from utils.output import output_path, write_label, write_score
from utils.report import review

CLASSES = ("background", "cat", "red dog", "</script><b>eel & co")
TAGS = {"a": (1,), "b": (2,), "c": (), "d": (1, 3), "e,1": (3,), "f": (1,)}
SEEN = {"a": (1,), "b": (1,), "c": (), "d": (1,), "e,1": (3,), "f": (2, 1)}


@pytest.fixture
def own(tmp_path):
    """Six pictures without masks: b is tagged otherwise than it is seen, d and f in part."""
    root, out = tmp_path / "own <set>", tmp_path / "out"
    (root / "JPEGImages").mkdir(parents=True)
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, (name, seen) in enumerate(SEEN.items()):
        height, width = (60, 90) if number % 2 else (80, 50)
        photo = rng.integers(0, 255, (height, width, 3)).astype(np.uint8)
        Image.fromarray(photo).save(root / "JPEGImages" / f"{name}.jpg")
        label = np.zeros((height, width), np.uint8)
        for row, index in enumerate(seen):
            label[20 * row + 5 : 20 * row + 20, 10:40] = index
        label[0, 0] = 2  # too small to count
        write_label(output_path(out, "label", name), label)
        if name != "a":
            score = np.stack([label == index for index in range(4)]) * 0.8
            write_score(output_path(out, "score", name), score, range(4), label.shape)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(TAGS) + "\n")
    with open(root / "tags.csv", "w", newline="") as file:
        rows = [[name, ";".join(CLASSES[tag] for tag in tags)] for name, tags in TAGS.items()]
        csv.writer(file).writerows([["id", "tags"], *rows])
    return root, out


def write(own):
    root, out = own
    spec = resolve(str(root))
    size = review.write(
        out / "report.html", spec, "train", measure.find(out), list(TAGS), "x", quiet=True
    )
    assert size == (out / "report.html").stat().st_size
    return out / "report.html"


def test_seen_classes_their_share_and_confidence(own):
    predictions = measure.find(own[1])
    seen = review.see(predictions, "f", 4)
    assert set(seen.classes) == {1, 2} and seen.share.sum() == pytest.approx(1)
    assert seen.share[1] == pytest.approx(450 / 5400)
    assert seen.confidence[1] == pytest.approx(0.8, abs=0.01) and np.isnan(seen.confidence[3])
    assert np.isnan(review.see(predictions, "a", 4).confidence).all()  # no scores
    with pytest.raises(UserError, match="class 2"):
        review.see(predictions, "f", 2)


def test_disagreement_orders_the_images(own):
    predictions = measure.find(own[1])
    differ = {n: review.disagreement(review.see(predictions, n, 4), TAGS[n]) for n in TAGS}
    assert sorted(differ, key=differ.get)[-1] == "b" and differ["b"] == pytest.approx(2, abs=0.01)
    assert differ["a"] == differ["c"] == differ["e,1"] == 0
    assert differ["d"] == pytest.approx(0.5)
    assert differ["f"] == pytest.approx(0.5, abs=0.01)


def test_table_of_classes(own):
    predictions = measure.find(own[1])
    seen = {name: review.see(predictions, name, 4) for name in TAGS}
    rows = {row["name"]: row for row in review.class_rows(resolve(str(own[0])), seen, TAGS)}
    cat = rows["cat"]
    assert (cat["seen"], cat["tagged"], cat["both"], cat["lost"], cat["strange"]) == (4, 3, 3, 0, 1)
    assert rows["red dog"]["lost"] == rows["red dog"]["strange"] == 1
    assert cat["confidence"] == pytest.approx(80, abs=1)


def test_page_is_one_file_and_escapes_names(own):
    text = write(own).read_text()
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(src|href)=[\"'](?!data:)", text)
    assert "<b>eel" not in text and "own <set>" not in text
    data = json.loads(re.search(r'id="data" type="application/json">(.*?)</script>', text)[1])
    assert next(item["id"] for item in data["items"]) == "b"
    assert "Nothing was scored" in text


def test_page_keeps_to_its_budget(own, monkeypatch):
    monkeypatch.setattr(review, "BUDGET", 5000)
    text = write(own).read_text()
    assert re.search(r"[1-5] of 6 images are shown", text)
    data = json.loads(re.search(r'id="data" type="application/json">(.*?)</script>', text)[1])
    assert len(data["items"]) < 6 == len(data["tags"])  # retag.csv still names them all


def test_without_tags_there_is_nothing_to_correct(own):
    (own[0] / "tags.csv").unlink()
    text = write(own).read_text()
    assert 'id="download"' not in text and "Their tags are not known" in text


def wait_for(path):
    end = monotonic() + 10
    while not path.is_file():
        assert monotonic() < end, f"no {path}"
        sleep(0.05)
    return path


def test_corrected_tags_come_back_through_arrange(own, browser, tmp_path):
    root, _ = own
    folder = tmp_path / "downloads"
    folder.mkdir()
    behaviour = {"behavior": "allow", "downloadPath": str(folder)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    browser.get(write(own).as_uri())
    check_page(browser)

    def cards():
        return {
            card.find_element("tag name", "strong").text: card for card in find(browser, ".card")
        }

    def click(name, key):
        button = cards()[name].find_element("css selector", f'[data-key="{key}"]')
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()

    assert next(iter(cards())) == "b" and len(cards()) == 6
    click("b", "wrong")  # takes what is seen: cat
    click("d", 3)  # no eel
    click("a", "good")
    click("f", 1)
    click("f", "wrong")  # back to the old tags
    click("e,1", 3)
    other = cards()["a"].find_element("css selector", "select option[value='2']")
    other.click()  # a correction replaces the mark
    assert find(browser, "#marks")[0].text == "4 corrected, 0 good"
    find(browser, "#view option[value=marked]")[0].click()
    assert set(cards()) == {"a", "b", "d", "e,1"}
    find(browser, "#view option[value=all]")[0].click()
    find(browser, "#filter button")[3].click()
    assert "b" not in cards()  # of the eel
    check_page(browser)
    find(browser, "#download")[0].click()
    retag = wait_for(folder / "retag.csv")
    with open(retag, newline="") as file:
        rows = dict(csv.reader(file))
    assert rows == {
        "id": "tags", "a": "cat;red dog", "b": "cat", "c": "background", "d": "cat",
        "e,1": "background", "f": "cat",
    }  # fmt: skip

    new = {"a": (1, 2), "b": (1,), "c": (), "d": (1,), "e,1": (), "f": (1,)}
    shutil.copy(retag, root / "tags.csv")
    assert read_tags(resolve(str(root)), list(TAGS)) == new
    command = ask(browser, "[...document.querySelectorAll('.code code')].map(n => n.textContent)")
    assert any(
        "datalist.prepare.arrange" in line and "--layout columns" in line for line in command
    )
    options = arrange.Arguments(
        root / "JPEGImages", out=tmp_path / "again", tags=retag, layout="columns"
    )
    arrange.main(options)
    spec = resolve(str(tmp_path / "again"))
    assert spec.classes == ("background", "cat", "red dog")
    again = {name.replace(",", "_"): tags for name, tags in new.items()}  # as arrange names them
    assert read_tags(spec, list(again)) == again
