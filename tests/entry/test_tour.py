"""The whole way with own pictures: folders, chain, report, corrected tags, chain again, export,
predict.py, annotate, convert, evaluate."""

import csv
import json
import os
import re
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from program import execute, run

from datalist.image import read_image
from datalist.spec import resolve
from datalist.tag import read_tags
from utils.output import read_label

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
    out = tmp_path / "out"
    data = out / "data"
    draw(tmp_path / "photos")
    printed = photos(tmp_path / "photos", out)
    assert "not scored, as 30 of 30 images" in printed and f"{out}/report.html" in printed

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
    said = photos(tmp_path / "photos", out, code=1)
    assert "other inputs (tags of 1 of 30 images): add --fresh" in said
    photos(tmp_path / "photos", out, FRESH="1")
    assert (out / "cue/foreground/old-1/last.pt").is_file()
    assert (out / "train/old-1/last.pt").is_file()
    assert (out / "home/model.pt2").stat().st_mtime > (out / "train/last.pt").stat().st_mtime

    # Elsewhere, with the exported files alone.
    command = [sys.executable, str(out / "home/predict.py"), str(data / "JPEGImages")]
    execute([*command, "--out", str(tmp_path / "predicted")])
    for image in (data / "JPEGImages").iterdir():
        label = read_label(tmp_path / "predicted" / f"{image.stem}.png")
        assert label.shape == read_image(image).shape[:2] and label.max() <= 3

    # Masks by people: predictions to correct in a labelling tool, and back as true masks.
    export = ("--format", "coco", "--smallest", 0, "--out", tmp_path / "coco.json")
    run("-m utils.report.annotate", out / "val", "--dataset", data, *export)
    assert "30 masks" in run("-m datalist.prepare.convert", tmp_path / "coco.json", data).stdout
    scored = ("--dataset", data, "--split", "train", "--out", tmp_path / "score", "--report")
    done = run("evaluate.py", out / "val", *scored, "--quiet")
    assert float(done.stdout.split()[-1]) > 90  # the predictions themselves, as polygons
    assert (tmp_path / "score/report.html").is_file()
