"""The report: its numbers, what it chooses to show, and the page in a real browser."""

import base64
import json
import re
import shutil
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from browsing import ask, check_page, find, keys, read_page
from PIL import Image

from base.file import write_text
from datalist.image import write_mask
from datalist.spec import Spec
from utils import measure
from utils.output import output_path, write_score
from utils.report import chart, frame, gallery
from utils.report import page as report

CLASSES = ("background", "cat", "dog", "</script><b>eel & co")
HEIGHT, WIDTH = 48, 64


def test_error_kinds():
    truth = np.array([[0, 0, 1, 1, 1, 255]])
    label = np.array([[0, 2, 0, 1, 2, 1]])
    assert gallery.errors(truth, label).tolist() == [[0, 2, 1, 0, 3, 0]]


def test_difference_kinds():
    truth = np.array([[0, 1, 1, 1, 255]])
    first = np.array([[0, 1, 2, 2, 1]])
    second = np.array([[0, 2, 1, 3, 2]])
    assert gallery.differences(truth, first, second).tolist() == [[0, 1, 2, 3, 0]]


def test_choice_holds_worst_best_and_every_class():
    rng = np.random.default_rng(0)
    iou = rng.random((400, 5)).astype(np.float32)
    iou[:, 4] = np.nan
    iou[7, 4] = 0.5  # the only image with class 4
    miou = np.nanmean(iou, 1)
    miou[3] = np.nan
    chosen = gallery.choose(iou, miou)
    order = [n for n in np.argsort(miou) if n != 3]
    assert chosen[:12] == order[:12]
    assert chosen[12:24] == order[::-1][:12]
    assert 7 in chosen and np.nanargmin(iou[:, 2]) in chosen and np.nanargmax(iou[:, 1]) in chosen
    assert 60 < len(set(chosen)) == len(chosen) <= gallery.LIMIT
    differ = rng.random(400)
    assert gallery.choose(iou, miou, differ)[:24] == np.argsort(-differ)[:24].tolist()


def test_log_is_read_past_kills_and_resumes(tmp_path):
    path = tmp_path / "log.jsonl"
    lines = [{"step": 1, "lr": 0.1, "loss": 3.0}, {"step": 2, "lr": 0.1, "loss": 2.0}]
    lines += [{"step": 3, "loss": 9.0}, {"step": 3, "lr": 0.01, "loss": 1.0, "seed": 0.5}]
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 4, "lo')
    found = report.read_log(path)
    assert found["step"].tolist() == [1, 2, 3]
    assert found["loss"].tolist() == [3, 2, 1]
    np.testing.assert_array_equal(found["seed"], [np.nan, np.nan, 0.5])
    assert report.read_log(tmp_path / "none") == {}


def test_runs_are_told_apart_by_name(tmp_path):
    assert frame.run_name(tmp_path / "sec" / "val-crf", "val") == "sec/val-crf"
    assert frame.run_name(tmp_path / "sec", "val") == "sec"


def test_training_is_found_beside_the_predictions(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    assert frame.find_training(tmp_path / "val") is None
    (tmp_path / "train" / "log.jsonl").write_text("")
    assert frame.find_training(tmp_path / "val") == tmp_path / "train"
    assert frame.find_training(tmp_path) == tmp_path / "train"


def test_thin_keeps_the_mean():
    x = np.arange(1000.0)
    few, series = chart.thin(x, {"a": 2 * x, "b": np.full(1000, np.nan)}, 10)
    assert len(few) == 10 and few.mean() == pytest.approx(x.mean())
    assert series["a"] == pytest.approx(2 * few)
    assert np.isnan(series["b"]).all()


@pytest.mark.parametrize("values", [[0.0, 0.0], [np.nan, np.nan], [1e-9, 2e-9], [-3.0, 1e7]])
def test_lines_of_awkward_values_stay_in_the_frame(values):
    svg = chart.lines([0, 1], {"a": values}, "a")
    numbers = [float(n) for n in re.findall(r"[ML]([\d.e+-]+) ", svg)]
    assert all(np.isfinite(numbers)) and max(numbers) <= chart.WIDTH
    assert "nan" not in svg.split("data-readout")[0]


def test_heat_names_every_cell_and_escapes():
    matrix = np.array([[8, 2, 0, 0], [0, 5, 0, 5], [0, 0, 0, 0], [1, 0, 0, 3]])
    svg = chart.confusion(matrix, CLASSES)
    assert svg.count("<rect") == 6
    assert "20.0 % of true background pixels are predicted as cat" in svg
    assert "<b>" not in svg


@pytest.fixture
def world(tmp_path):
    """Twenty images, two runs of labels, one of scores, a training log and a recipe."""
    rng = np.random.default_rng(0)
    ids = [f"image_{n:02d}" for n in range(20)]
    spec = Spec(name="own <set>", root=tmp_path, classes=CLASSES, lists={})
    (tmp_path / "JPEGImages").mkdir()
    for n, name in enumerate(ids):
        truth = np.zeros((HEIGHT, WIDTH), np.uint8)
        truth[10:40, 8:50] = 1 + n % 3
        truth[:2] = 255
        photo = rng.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        Image.fromarray(photo).save(tmp_path / "JPEGImages" / f"{name}.jpg")
        write_mask(spec.mask_path(name), truth)
        for run, shift in (("a", n), ("b", n // 2)):
            write_mask(output_path(tmp_path / run, "label", name), np.roll(truth % 255, shift, 1))
        score = np.stack([truth == c for c in (1, 2, 3)]) * 0.6
        write_score(output_path(tmp_path / "cam", "score", name), score, [1, 2, 3], truth.shape)
    rows = enumerate(1 / (1 + n) for n in range(500))
    lines = [{"step": n, "lr": 0.1 * x, "loss": 3.0 * x, "seed": 1.0} for n, x in rows]
    (tmp_path / "a" / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    recipe = {"command": "python train.py sec", "steps": 500, "size": [4, 5], "note": "<i>x"}
    (tmp_path / "a" / "recipe.json").write_text(json.dumps(recipe))
    (tmp_path / "b" / "recipe.json").write_text(json.dumps(recipe | {"steps": 7}))
    for run, crf in (("a", False), ("b", True)):
        made = {"command": "python test.py last.pt", "settings": {"crf": crf, "mirror": True}}
        (tmp_path / run / "predict.json").write_text(json.dumps(made))
    return spec, ids, tmp_path


def page(world, *names, path="report.html"):
    spec, ids, root = world
    runs = []
    for name in names:
        predictions = measure.find(root / name)
        found = measure.measure(spec, ids, predictions, [0.2, 0.4, 0.7], 1, quiet=True)
        runs.append(report.Run(name, predictions, found, frame.find_training(root / name)))
    command = "python evaluate.py 'my out' --dataset <own>"
    size = report.write(root / path, spec, "val", runs, command, 1, quiet=True)
    assert size == (root / path).stat().st_size < 5_000_000
    return root / path, runs


def test_page_is_one_file_and_escapes_names(world):
    path, runs = page(world, "a")
    text, data = read_page(path, "<b>eel", "<i>x", "<own>")
    assert f"{100 * runs[0].measured.scores.miou:.2f}" in text
    assert data["classes"] == list(CLASSES)
    assert len(data["items"]) == 20 and data["items"][0]["id"] == "image_19"
    assert data["items"][0]["miou"] == [round(100 * float(runs[0].measured.image_miou[19]), 1)]


def test_page_keeps_to_its_budget(world, monkeypatch):
    monkeypatch.setattr(gallery, "BUDGET", 30_000)
    path, _ = page(world, "a")
    assert path.stat().st_size < 100_000
    assert re.search(r"[1-9] of 20 images", path.read_text())


def test_page_without_photographs(world):
    def photos():
        for item in read_page(page(world, "a")[0])[1]["items"]:
            with Image.open(BytesIO(base64.b64decode(item["photo"].split(",")[1]))) as photo:
                yield np.asarray(photo)

    assert min(photo.std() for photo in photos()) > 10
    shutil.rmtree(world[2] / "JPEGImages")
    grey = list(photos())
    assert len(grey) == 20
    assert all(photo.shape == (HEIGHT, WIDTH, 3) and (photo == 128).all() for photo in grey)


def test_disagreement_is_the_share_of_unlike_pixels(world):
    spec, ids, _ = world
    _, runs = page(world, "a", "b")
    pairs = [(r.predictions, r.measured) for r in runs]
    found = gallery.disagreement(spec, ids, pairs, 2, quiet=True)
    for n in (0, 7, 19):
        truth = np.asarray(Image.open(spec.mask_path(ids[n])))
        a, b = (np.roll(truth % 255, shift, 1) for shift in (n, n // 2))
        assert found[n] == pytest.approx((a != b)[truth != 255].mean())


def test_one_run_in_a_browser(world, browser):
    from selenium.webdriver import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    path, _ = page(world, "a")
    browser.get(path.as_uri())
    check_page(browser)

    def shown():
        return [node.text.split("\n")[0] for node in find(browser, ".item")]

    def values():
        return [float(node.text.split()[1]) for node in find(browser, ".item strong")]

    assert len(shown()) == 6 and values() == sorted(values())
    find(browser, "#more")[0].click()
    assert len(shown()) == 12
    find(browser, "#order option[value=best]")[0].click()
    assert values() == sorted(values(), reverse=True) and values()[0] == 100

    chips = find(browser, "#filter button")
    assert [c.text for c in chips] == ["all", *CLASSES]
    chips[2].click()  # cat: images 0, 3, 6, ...
    names = [n.text for n in find(browser, ".item-head > span:nth-child(2)")]
    assert len(names) == 6 and all(int(n.split("_")[1]) % 3 == 0 for n in names)
    find(browser, '.pick[data-class="2"]')[0].click()
    names = [n.text for n in find(browser, ".item-head > span:nth-child(2)")]
    assert names and all(int(n.split("_")[1]) % 3 == 1 for n in names)

    browser.execute_script("document.querySelector('.item').focus()")
    keys(browser, Keys.ENTER)
    assert ask(browser, "document.getElementById('viewer').open")
    first = find(browser, "#viewer-id")[0].text
    keys(browser, Keys.ARROW_RIGHT)
    assert find(browser, "#viewer-id")[0].text != first
    keys(browser, Keys.ARROW_LEFT)
    assert find(browser, "#viewer-id")[0].text == first
    keys(browser, "]]")
    style = "getComputedStyle(document.getElementById('stage'))"
    assert ask(browser, f"{style}.getPropertyValue('--wipe')") == "60%"
    before = ask(browser, "document.getElementById('divider').getBoundingClientRect().x")
    find(browser, "#wipe")[0].send_keys(Keys.ARROW_LEFT * 20)
    after = ask(browser, "document.getElementById('divider').getBoundingClientRect().x")
    assert after < before
    assert find(browser, "#viewer-id")[0].text == first  # the slider's arrows are its own
    keys(browser, "3")
    assert find(browser, '#layers [aria-pressed="true"]')[0].text == "error"
    keys(browser, Keys.ESCAPE)
    assert not ask(browser, "document.getElementById('viewer').open")

    theme = ask(browser, "document.documentElement.dataset.theme")
    background = ask(browser, "getComputedStyle(document.body).backgroundColor")
    keys(browser, "t")
    assert ask(browser, "document.documentElement.dataset.theme") != theme
    assert ask(browser, "getComputedStyle(document.body).backgroundColor") != background

    assert len(find(browser, "svg.lines")) == 2  # losses, learning rate
    assert "4, 5" in find(browser, "dl")[0].text
    commands = [node.text for node in find(browser, ".code code")]
    assert [c.split()[1] for c in commands] == ["train.py", "test.py", "evaluate.py"]
    copy = find(browser, ".copy")[1]
    browser.execute_script("arguments[0].click()", copy)
    WebDriverWait(browser, 5).until(lambda _: copy.text in ("copied", "selected"))
    assert browser.get_log("browser") == []


def test_two_runs_and_scores_in_a_browser(world, browser):
    path, runs = page(world, "a", "b")
    browser.get(path.as_uri())
    check_page(browser)
    gain = 100 * (runs[1].measured.scores.miou - runs[0].measured.scores.miou)
    assert f"{gain:+.2f}" in find(browser, ".tiles")[0].text
    differ = [float(n.text.split()[0]) for n in find(browser, ".item-head > span:nth-child(3)")]
    assert len(differ) == 6 and differ == sorted(differ, reverse=True)
    find(browser, "#order option[value=gain]")[0].click()
    pairs = [n.text.split()[1::2] for n in find(browser, ".item strong")]
    gains = [float(b) - float(a) for a, b in pairs]
    assert gains[0] > 0 and gains == sorted(gains, reverse=True)
    assert len(find(browser, ".item:first-child .panel")) == 5
    changed = {node.text.split("\n")[0] for node in find(browser, "dl .changed dt")}
    assert changed == {"steps", "test: crf"}

    path, runs = page(world, "cam", path="cam.html")
    assert runs[0].measured.threshold == 0.2
    browser.get(path.as_uri())
    check_page(browser)
    assert "0.20" in find(browser, ".tiles")[0].text
    assert len(find(browser, "svg.lines")) == 1  # the sweep


def test_restricted_run_says_so(world):
    spec, ids, root = world
    predictions = replace(measure.find(root / "a"), tags=dict.fromkeys(ids, (1,)))
    found = measure.measure(spec, ids, predictions, [], 1, quiet=True)
    runs = [report.Run("a", predictions, found)]
    report.write(root / "r.html", spec, "val", runs, "x", quiet=True)
    assert "Only classes of each image" in (root / "r.html").read_text()


def test_contrast_of_the_masks_is_said(world):
    _, _, root = world
    chosen = {
        "used": True,
        "measures": {"cat": ["local", "median"], "dog": []},
        "separation": [0.734, 0.707],
        "share": {"cat": {"median": 0.5, "local": 0.512}, "dog": {"median": 0.0, "local": 0.0}},
    }

    def put(name, **values):
        path = root / name
        before = json.loads(path.read_text()) if path.is_file() else {}
        write_text(path, json.dumps(before | values))

    put("sure/pseudo.json", settings={})
    put("a/recipe.json", cue=f"{root}/sure/label")
    assert frame.find_contrast(root / "a") == {}
    put("sure/pseudo.json", settings={"contrast_chosen": chosen})
    # The second network learns the masks of the first, which learned from the cues.
    put("a/predict.json", checkpoint=f"{root}/a/last.pt")
    put("b/recipe.json", mask=f"{root}/a/label")
    assert frame.find_contrast(root / "b") == frame.find_contrast(root / "a")
    # So does a network that learns masks of the first one's seeds, as in RecurSeed.
    put("pseudo/pseudo.json", seeds=f"{root}/a", settings={"contrast": "off"})
    put("b/recipe.json", mask=f"{root}/pseudo/label")
    assert frame.find_contrast(root / "b") == frame.find_contrast(root / "a")
    text = page(world, "b")[0].read_text()
    assert "contrast with the surroundings used" in text and "local and median" in text
    assert "73.4 %" in text and "51 %" in text and "the map alone" in text
    put("sure/pseudo.json", settings={"contrast_chosen": chosen | {"used": False}})
    assert "contrast with the surroundings not used" in page(world, "a")[0].read_text()
