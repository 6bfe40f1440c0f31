"""The page of questions: what it asks, and its answers in a browser."""

import numpy as np
import pytest
from browsing import ask, check_page, find, keys, read_page, resize, save_into, wait_for
from PIL import Image

from datalist.answer import NONE, GroupFile, Rejection, read_answers
from datalist.spec import Spec
from utils.report import questions

CLASSES = ("background", "boat", "</script><b>eel, grey")
IDS = ["a", "b", "c"]


@pytest.fixture
def world(tmp_path):
    """Three photographs with groups of two classes."""
    rng = np.random.default_rng(0)
    (tmp_path / "JPEGImages").mkdir()
    for name in IDS:
        photo = rng.integers(0, 255, (60, 90, 3)).astype(np.uint8)
        Image.fromarray(photo).save(tmp_path / "JPEGImages" / f"{name}.jpg")
    codes = {}
    for row, name in enumerate(IDS):
        code = np.full((6, 9), NONE, np.uint8)
        code[:3] = np.arange(9) // 3 * 2 + row % 2  # groups 1 to 3, some in halves
        codes[name, 1] = code
    codes["b", 2] = np.zeros((6, 9), np.uint8)
    spec = Spec(name="own <set>", root=tmp_path, classes=CLASSES, lists={})
    return spec, GroupFile(tmp_path / "groups.npz", CLASSES, codes)


def values(groups, *of_group):
    """Maps that have one value for each group."""
    table = np.array(of_group, np.float32)
    return {key: table[code[code != NONE] // 2] for key, code in groups.codes.items()}


def test_large_and_doubtful_groups_are_asked_about(world):
    _, groups = world
    assert questions.choose(groups, values(groups, 0.6, 0.2, 0.9))[1] == [1, 0]
    code = groups.codes["a", 1]
    code[:] = 0  # group 3 is now 18 of 90 cells, which is still large
    assert 2 in questions.choose(groups, values(groups, 0.6, 0.2, 0.3))[1]
    for name in "bc":
        groups.codes[name, 1][code == 0] = np.where(np.arange(54) < 2, 4, 0)
    assert 2 not in questions.choose(groups, values(groups, 0.6, 0.2, 0.3))[1]
    assert questions.choose(groups, values(groups, 0.8, 0.8, 0.8)) == {1: [], 2: []}


def test_every_group_is_in_a_photograph():
    codes = {(f"{n:02d}", 1): np.full((4, 4), 0, np.uint8) for n in range(30)}
    codes["17", 1][0] = 6
    codes["23", 1][1] = 4
    groups = GroupFile(None, CLASSES, codes)
    chosen = questions.photographs(groups, 1, [0, 2, 3])
    assert len(chosen) == len(set(chosen)) == questions.SHOWN and {"17", "23"} <= set(chosen)


def write(world):
    spec, groups = world
    path = spec.root / "questions.html"
    command = "FRESH=1 ANSWERS={} bash script/photos.sh 'My <Run>'"
    assert questions.write(path, spec, groups, {1: [0, 1], 2: [0]}, command) == path.stat().st_size
    return path


def test_page_is_one_file_and_escapes_names(world):
    text, data = read_page(write(world), "<b>eel", "<Run>")
    assert "ANSWERS=~/Downloads/answers.csv" in text
    assert data["maps"] == world[1].checksum and len(data["photos"]) == 3


def question(browser):
    return find(browser, "#question")[0].text


def test_answers_in_a_browser(world, browser):
    path = world[0].root / "downloads/answers.csv"
    save_into(browser, path.parent)
    page = write(world).as_uri()
    browser.get(page)
    check_page(browser)
    assert question(browser) == "Is the lit part boat?" and len(find(browser, "canvas")) == 3
    assert find(browser, "#count")[0].text == "1 of 5"

    def lit():
        """Share of the cells of the first photograph that are lit."""
        return ask(
            browser,
            "(() => {const c = document.querySelector('canvas');"
            "const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            "let n = 0; for (let i = 3; i < p.length; i += 4) n += p[i] < 100;"
            "return n / (c.width * c.height);})()",
        )

    assert lit() == pytest.approx(9 / 54)
    keys(browser, "3")  # both: its halves follow
    assert find(browser, "#count")[0].text == "2 of 7"
    assert lit() == pytest.approx(9 / 54)  # photograph a is all in the first half
    keys(browser, "1")
    assert lit() == 0
    keys(browser, "2")
    keys(browser, "2")  # group 2
    assert question(browser) == "How much of a photograph is boat, mostly?"
    keys(browser, "2")
    assert "eel, grey" in question(browser)
    browser.get(page)  # what was answered is still there
    assert find(browser, "#saved")[0].text == "5 of 7 answered"
    find(browser, "#classes button")[1].click()
    find(browser, '[data-answer="not"]')[0].click()
    find(browser, "#download")[0].click()
    wait_for(path.is_file)
    answers = read_answers(path, CLASSES)
    assert answers.sizes == {1: "small"} and answers.maps == world[1].checksum
    assert answers.groups == {
        (1, "1"): "both", (1, "1a"): "object", (1, "1b"): "not", (1, "2"): "not", (2, "1"): "not",
    }  # fmt: skip
    assert Rejection(world[1], answers).wrong[1][:5].tolist() == [False, True, True, True, False]
    find(browser, "#undo")[0].click()
    browser.switch_to.alert.dismiss()
    assert find(browser, "#saved")[0].text == "6 of 7 answered"
    find(browser, "#undo")[0].click()
    browser.switch_to.alert.accept()
    assert question(browser) == "Is the lit part boat?"
    keys(browser, "1")
    assert find(browser, "#saved")[0].text == "1 of 5 answered"
    resize(browser, 390)
    box = ask(browser, "document.querySelector('#answers').getBoundingClientRect().height")
    assert box < 60  # three answers in one row of a phone
    assert browser.get_log("browser") == []
