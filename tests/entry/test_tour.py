"""The whole way with own pictures: folders, chain, report, corrected tags, chain again, changed
pictures, chain again, export, predict.py, annotate, convert, evaluate."""

import csv
import json
import os
import re
import shlex
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from program import execute, run

from datalist.image import read_image, read_mask
from datalist.spec import resolve
from datalist.tag import read_tags

SHAPES = {"ball": (200, 60, 40), "beam": (40, 80, 210), "leaf": (60, 170, 60)}


def draw(folder):
    """Thirty pictures in a folder per class, of several sizes; ten show no class."""
    rng = np.random.default_rng(0)
    for number in range(30):
        height, width = (int(side) for side in rng.integers(60, 110, 2))
        coarse = rng.integers(80, 160, (5, 6, 3)).astype(np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        name = [*SHAPES, "background"][number % 4 if number < 27 else 0]
        centre, size = (width // 2, height // 2), min(height, width) // 3
        if name == "ball":
            cv2.circle(image, centre, size, SHAPES[name], -1)
        elif name == "beam":
            corners = (centre[0] - size, centre[1] - 9), (centre[0] + size, centre[1] + 9)
            cv2.rectangle(image, *corners, SHAPES[name], -1)
        elif name == "leaf":
            cv2.ellipse(image, centre, (size, size // 2), 40, 0, 360, SHAPES[name], -1)
        noise = rng.normal(0, 8, image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name / f"DSC {number:02d}.jpg", quality=90)


def photos(folder, out, code=0, **environment):
    """What script/photos.sh prints, at smoke size."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment |= {"OUT": str(out), "TRAIN": "--recipe smoke --quiet", "PATH": path}
    done = execute(["bash", "script/photos.sh", str(folder)], code, **environment)
    return done.stderr if code else done.stdout


def test_tour(tmp_path):
    out, folder = tmp_path / "My Run", tmp_path / "trip [1]"
    data = out / "data"
    draw(folder)
    printed = photos(folder, out)
    assert "not scored, as 30 of 30 images" in printed and f"{out}/report.html" in printed
    # Printed commands can be pasted, and the recipe shows the folder as it is called.
    text = printed[printed.rindex("\nmasks ") :].replace("\\\n", "")
    lines = [
        shlex.split(line)
        for line in text.splitlines()
        if "script.plan" in line or "OUT=" in line or line.startswith("network")
    ]
    assert ["network", "python", f"{out}/home/predict.py", "photo.jpg"] in lines
    assert [f"OUT={out}-large", "bash", "script/photos.sh", str(folder)] in [w[1:] for w in lines]
    assert ["python", "-m", "script.plan", str(data)] in [line[2:6] for line in lines]
    own = next(line for line in printed.splitlines() if line.startswith("own pictures"))
    assert shlex.split(own)[4] == f"{out}/train/last.pt"
    assert f"dataset='{data}'" in printed
    assert re.search(r"up to \d minutes on a free machine", printed)
    assert not (out / "val").exists() and len(list((out / "train-images/label").iterdir())) == 30

    # One picture gets another tag, as in the page of the report.
    text = (out / "report.html").read_text()
    page = json.loads(re.search(r'id="data" type="application/json">(.*?)</script>', text)[1])
    assert page["classes"] == ["background", *SHAPES] and len(page["items"]) == 30
    spec = resolve(str(data))
    tags = {name: tuple(row) for name, row in page["tags"].items()}
    assert tags == read_tags(spec, spec.ids("train"))
    wrong = next(name for name, row in tags.items() if row == (1,))
    tags[wrong] = (1, 2)
    with open(tmp_path / "retag.csv", "w", newline="") as file:
        names = [[i, ";".join(page["classes"][t] for t in row or (0,))] for i, row in tags.items()]
        csv.writer(file).writerows([["id", "tags"], *names])
    table = ("--tags", tmp_path / "retag.csv", "--layout", "columns")
    run("-m datalist.prepare.arrange", data / "JPEGImages", *table, "--out", tmp_path / "arranged")
    assert read_tags(resolve(str(tmp_path / "arranged")), list(tags)) == tags
    (data / "tags.csv").write_bytes((tmp_path / "retag.csv").read_bytes())

    # The same command says what changed; FRESH=1 computes again what depends on it.
    said = photos(folder, out, code=1)
    assert "other inputs (tags of 1 of 30 images): add --fresh" in said
    photos(folder, out, FRESH="1")
    assert (out / "cue/foreground/old-1/last.pt").is_file()
    assert (out / "train/old-1/last.pt").is_file()
    assert (out / "home/model.pt2").stat().st_mtime > (out / "train/last.pt").stat().st_mtime

    # Pictures change: what depends on them is trained again, and nothing else.
    first = out / "data/JPEGImages" / f"{wrong}.jpg"
    Image.new("RGB", (90, 50), SHAPES["beam"]).save(tmp_path / "other.jpg")
    os.replace(tmp_path / "other.jpg", next(folder.rglob(f"{wrong.replace('_', ' ')}.jpg")))
    printed = photos(folder, out)
    assert "1 pictures replaced" in printed and "corrected" in printed
    assert read_mask(out / f"train-images/label/{wrong}.png").shape == (50, 90)
    assert read_tags(resolve(str(data)), [wrong]) == {wrong: (1, 2)}
    assert (out / "old-1/data/tags.csv").is_file() and (out / "train/old-2/last.pt").is_file()
    trained = (out / "train/last.pt").stat().st_mtime_ns
    assert "none changed" in photos(folder, out)
    assert (out / "train/last.pt").stat().st_mtime_ns == trained and first.is_file()

    # Elsewhere, with the exported files alone.
    command = [sys.executable, str(out / "home/predict.py"), str(data / "JPEGImages")]
    execute([*command, "--out", str(tmp_path / "predicted")])
    for image in (data / "JPEGImages").iterdir():
        label = read_mask(tmp_path / "predicted" / f"{image.stem}.png")
        assert label.shape == read_image(image).shape[:2] and label.max() <= 3

    # Masks by people: predictions to correct in a labelling tool, and back as true masks.
    export = ("--format", "coco", "--smallest", 0, "--out", tmp_path / "coco.json")
    run("-m utils.report.annotate", out / "train-images", "--dataset", data, *export)
    assert "30 masks" in run("-m datalist.prepare.convert", tmp_path / "coco.json", data).stdout
    scored = ("--dataset", data, "--split", "train", "--out", tmp_path / "score", "--report")
    done = run("evaluate.py", out / "train-images", *scored, "--quiet")
    assert float(done.stdout.split()[-1]) > 90  # the predictions themselves, as polygons
    assert (tmp_path / "score/report.html").is_file()
