"""The report of images without true masks: its numbers, and corrections of tags in a browser."""

import csv
import html
import json
import re
import shutil

import numpy as np
import pytest
from browsing import ask, check_page, find, read_page, resize, save_into, wait_for
from made import layout
from PIL import Image

from base import UserError
from base.file import write_text
from datalist.image import read_mask, write_mask
from datalist.prepare import arrange
from datalist.spec import resolve
from datalist.tag import read_tags, wrong_masks
from utils import measure
from utils.cover import cover_of
from utils.output import output_path, write_score
from utils.report import review

CLASSES = ("background", "cat", "red dog", "</script><b>eel & co")
TAGS = {"a": (1,), "b": (2,), "c": (), "d": (1, 3), "e,1": (3,), "f": (1,)}
SEEN = {"a": (1,), "b": (1,), "c": (), "d": (1,), "e,1": (3,), "f": (2, 1)}


@pytest.fixture
def own(tmp_path):
    """Six pictures without masks: b is tagged otherwise than it is seen, d and f in part."""
    root, out = tmp_path / "own <set>", tmp_path / "out"
    layout(root, CLASSES, TAGS)
    rng = np.random.default_rng(0)
    for number, (name, seen) in enumerate(SEEN.items()):
        height, width = (60, 90) if number % 2 else (80, 50)
        photo = rng.integers(0, 255, (height, width, 3)).astype(np.uint8)
        Image.fromarray(photo).save(root / "JPEGImages" / f"{name}.jpg")
        label = np.zeros((height, width), np.uint8)
        for row, index in enumerate(seen):
            label[20 * row + 5 : 20 * row + 20, 10:40] = index
        label[0, 0] = 2  # too small to count
        write_mask(output_path(out, "label", name), label)
        if name != "a":
            score = np.stack([label == index for index in range(4)]) * 0.8
            write_score(output_path(out, "score", name), score, range(4), label.shape)
    return root, out


def write(own, **options):
    spec, predictions, page = resolve(str(own[0])), measure.find(own[1]), own[1] / "report.html"
    size = review.write(page, spec, "train", predictions, list(TAGS), "x", quiet=True, **options)
    assert size == page.stat().st_size
    return page


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


def test_a_share_far_from_the_usual_one_is_suspicious_though_tags_agree():
    def seen(share, confidence=np.nan):
        return review.Seen(np.array([1 - share, share]), np.array([np.nan, confidence]))

    images = {f"{n}": seen(0.1) for n in range(5)} | {"sky": seen(0.8), "none": seen(0.0)}
    usual = review.usual_shares(images)
    assert usual[1] == pytest.approx(0.1)
    suspect = {name: review.suspicion(item, 0.0, usual) for name, item in images.items()}
    assert suspect["sky"] == pytest.approx(0.75) and suspect["0"] == suspect["none"] == 0
    assert review.odd_share(images["sky"], usual) == (pytest.approx(3), 1)
    assert review.suspicion(seen(0.1, 0.4), 0.0, usual) == pytest.approx(0.6)
    assert review.suspicion(seen(0.1), 1.5, usual) == pytest.approx(1.5)
    cover = {"confidence": 0.9, "difference": 0.05}
    assert review.suspicion(seen(0.1), 0.0, usual, cover) == pytest.approx(0.1 + 0.05 / 0.1)
    assert review.suspicion(seen(0.1, 0.4), 0.0, usual, cover) == pytest.approx(0.6 + 0.5)


def test_page_says_what_to_do_next(own):
    root, out = own
    (root / "names.csv").write_text("id,file\na,holiday/IMG 1.jpg\n")
    (out / "questions.html").write_text("questions")
    again = "bash script/photos.sh 'own <set>'"
    text = html.unescape(write(own, again=again).read_text())
    commands = re.findall(r"<code>(.*?)</code>", text)[:3]
    assert commands[0] == f"FRESH=1 ANSWERS=~/Downloads/answers.csv {again}"
    assert commands[1] == f"cp ~/Downloads/retag.csv '{root}/tags.csv' && FRESH=1 {again}"
    assert commands[2].startswith("python -m utils.report.annotate") and str(out) in commands[2]
    assert 'href="questions.html"' in text and "own <set>: masks of your 6 images" in text
    assert "were trained on" in text and "draw 10" in text
    assert "holiday/IMG 1.jpg" in text


def test_table_of_classes(own):
    predictions = measure.find(own[1])
    seen = {name: review.see(predictions, name, 4) for name in TAGS}
    rows = {row["name"]: row for row in review.class_rows(resolve(str(own[0])), seen, TAGS)}
    cat = rows["cat"]
    assert (cat["seen"], cat["tagged"], cat["both"], cat["lost"], cat["strange"]) == (4, 3, 3, 0, 1)
    assert rows["red dog"]["lost"] == rows["red dog"]["strange"] == 1
    assert cat["confidence"] == pytest.approx(80, abs=1)


def test_page_is_one_file_and_escapes_names(own):
    text, data = read_page(write(own), "<b>eel", "own <set>")
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


def test_corrected_tags_come_back_through_arrange(own, browser, tmp_path):
    root, retag = own[0], tmp_path / "downloads/retag.csv"
    save_into(browser, retag.parent)
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
    click("c", "mask")
    click("f", "mask")
    assert find(browser, "#marks")[0].text == "3 corrected, 1 good, 2 masks wrong"
    assert browser.find_element("css selector", ".card .badge").text
    click("f", "mask")
    other = cards()["a"].find_element("css selector", "select option[value='2']")
    other.click()  # a correction replaces the mark
    assert find(browser, "#marks")[0].text == "4 corrected, 0 good, 1 masks wrong"
    find(browser, "#view option[value=marked]")[0].click()
    assert set(cards()) == {"a", "b", "c", "d", "e,1"}
    find(browser, "#view option[value=all]")[0].click()
    find(browser, "#filter button")[3].click()
    assert "b" not in cards()  # of the eel
    check_page(browser)
    find(browser, "#download")[0].click()
    wait_for(retag.is_file)
    with open(retag, newline="") as file:
        rows = {name: rest for name, *rest in csv.reader(file)}
    assert rows == {
        "id": ["tags", "mask"], "a": ["cat;red dog", ""], "b": ["cat", ""],
        "c": ["background", "wrong"], "d": ["cat", ""], "e,1": ["background", ""],
        "f": ["cat", ""],
    }  # fmt: skip

    new = {"a": (1, 2), "b": (1,), "c": (), "d": (1,), "e,1": (), "f": (1,)}
    shutil.copy(retag, root / "tags.csv")
    assert read_tags(resolve(str(root)), list(TAGS)) == new
    assert wrong_masks(resolve(str(root))) == {"c"}
    lines = ask(browser, "[...document.querySelectorAll('.code code')].map(n => n.textContent)")
    assert any("datalist.prepare.arrange" in x and "--layout columns" in x for x in lines)
    options = {"out": tmp_path / "again", "tags": retag, "layout": "columns"}
    arrange.main(arrange.Arguments(root / "JPEGImages", **options))
    spec = resolve(str(tmp_path / "again"))
    assert spec.classes == ("background", "cat", "red dog")
    again = {name.replace(",", "_"): tags for name, tags in new.items()}  # as arrange names them
    assert read_tags(spec, list(again)) == again


def test_outlines_and_fewer_images_on_a_phone(own, browser):
    browser.get(write(own).as_uri())
    check_page(browser)
    source = "document.querySelector('.sheet img + img').src"
    fill = ask(browser, source)
    find(browser, "#drawn option[value=line]")[0].click()
    wait_for(lambda: ask(browser, source) != fill)
    colours = ask(
        browser,
        "(() => {const i = document.querySelector('.sheet img + img');"
        "const c = document.createElement('canvas'); c.width = i.naturalWidth;"
        "c.height = i.naturalHeight; const x = c.getContext('2d'); x.drawImage(i, 0, 0);"
        "return [...new Set(new Uint32Array(x.getImageData(0, 0, c.width, c.height).data.buffer))]"
        "})()",
    )
    assert {0, 0xFF000000, 0xFFFFFFFF} < set(colours)
    assert ask(browser, "pageSize()") == 24
    resize(browser, 390)
    assert ask(browser, "pageSize()") == 12
    assert browser.get_log("browser") == []


def test_cover_of_the_pictures_is_a_table_to_sort(own, browser):
    _, out = own
    for number, name in enumerate(TAGS):
        label = read_mask(output_path(out, "label", name))
        cover = cover_of(label, label, CLASSES, f"<{name}> 1.jpg", 0.5, number / 10)
        write_text(output_path(out, "cover", name), json.dumps(cover) + "\n")
    browser.get(write(own).as_uri())
    check_page(browser)
    heads = find(browser, "table.sortable th button")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", heads[0])
    names = ["picture", *CLASSES, "parts", "confidence", "difference"]
    assert [head.text for head in heads] == names

    def column(number):
        return [cell.text for cell in find(browser, f".sortable tbody tr > :nth-child({number})")]

    assert column(1) == [f"<{name}> 1.jpg" for name in TAGS]
    heads[-1].click()
    assert column(8) == ["0.500", "0.400", "0.300", "0.200", "0.100", "0.000"]
    assert find(browser, "[aria-sort]")[0].get_attribute("aria-sort") == "descending"
    heads[-1].click()
    assert column(8)[0] == "0.000" and len(find(browser, "[aria-sort=ascending]")) == 1
    heads[0].send_keys("\n")  # a heading is a button, also for keys
    assert column(1)[0] == "<a> 1.jpg"
    heads[2].click()
    shares = list(map(float, column(3)))
    assert shares == sorted(shares, reverse=True) and shares[0] > 0
