"""evaluate.py as a user runs it: a folder in, a table, score.json and one last line out."""

import json
import sys
from functools import partial

import numpy as np
import program
import pytest
from made import layout
from PIL import Image

from datalist.image import write_mask
from datalist.palette import palette
from utils.output import output_path, write_score

CLASSES = ["background", "cat", "dog", "an-uncommonly-long-class-name-that-fits-no-column", "eel"]
COLOURS = palette(256)


run = partial(program.run, "evaluate.py")


@pytest.fixture
def world(tmp_path):
    """Four images of unlike sizes; class 3 is only predicted, class 4 nowhere."""
    tags = {f"image_{n}": (1, 2) if n < 3 else () for n in range(4)}
    root, out = layout(tmp_path / "set", CLASSES, tags, val=list(tags)), tmp_path / "out"
    rng = np.random.default_rng(0)
    truths, predictions = [], []
    for n, name in enumerate(tags):
        shape = (20 + 3 * n, 33 - n)
        truth = rng.integers(0, 3, shape).astype(np.uint8) * (n != 3)
        truth[:2] = 255
        prediction = np.where(rng.random(shape) < 0.7, truth % 255, rng.integers(0, 4, shape))
        pixels = rng.integers(0, 255, (*shape, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg")
        write_mask(root / "SegmentationClass" / f"{name}.png", truth)
        write_mask(output_path(out, "label", name), prediction)
        truths.append(truth)
        predictions.append(prediction)
    return root, out, truths, predictions


def iou(truths, predictions):
    found = []
    for c in range(len(CLASSES)):
        hit = sum(((t == c) & (p == c)).sum() for t, p in zip(truths, predictions))
        union = sum(((t == c) | (p == c))[t != 255].sum() for t, p in zip(truths, predictions))
        found.append(100 * hit / union if union else None)
    return found


def miou(truths, predictions):
    mean = np.mean([v for v in iou(truths, predictions) if v is not None])
    return pytest.approx(mean, abs=0.006)


def score_of(folder, root, *flags):
    run(folder, "--dataset", root, *flags)
    return json.loads((folder / "score.json").read_text())


def test_labels(world):
    root, out, truths, predictions = world
    done = run(out, "--dataset", root, "--detail")
    score = json.loads((out / "score.json").read_text())
    expected = iou(truths, predictions)
    for name, value in zip(CLASSES, expected):
        assert score["iou"][name] == (None if value is None else pytest.approx(value, abs=0.006))
    assert score["iou"][CLASSES[3]] == 0  # predicted, never true: counts 0
    assert score["absent"] == ["eel"] and score["miou"] == miou(truths, predictions)
    lines = done.stdout.splitlines()
    assert lines[-1] == f"miou {score['miou']:.2f}"
    assert max(map(len, lines)) <= 80
    assert "absent from truth and prediction: eel" in done.stdout
    assert "evaluate: 4 of 4 images [" in done.stderr
    assert run(out, "--dataset", root, "--quiet").stderr == ""


def test_one_worker_and_many_agree_and_out_is_obeyed(world, tmp_path):
    root, out, *_ = world
    for workers in (1, 5):
        run(out / "label", "--dataset", root, "-j", workers, "--out", tmp_path / str(workers))
    texts = [(tmp_path / str(n) / "score.json").read_text() for n in (1, 5)]
    assert texts[0] == texts[1]
    assert not (out / "score.json").exists()


def scored(folder, truths, keys, make):
    """Write the scores (k, H, W) that `make` gives for a mask and its number; as they are read."""
    maps = [np.rint(255 * make(truth, n)) / 255 for n, truth in enumerate(truths)]
    for n, (truth, score) in enumerate(zip(truths, maps)):
        write_score(output_path(folder, "score", f"image_{n}"), score, keys, truth.shape)
    return maps


def test_scores_without_background_are_swept(world):
    root, out, truths, _ = world
    rng = np.random.default_rng(1)

    def make(truth, _):
        score = np.rint(255 * (0.6 * (truth == np.array([1, 2, 3])[:, None, None]))) / 255
        return score + 0.4 * rng.random(score.shape)

    maps = scored(folder := out.parent / "cam", truths, [1, 2, 3], make)
    score, expected = score_of(folder, root), {}
    for t in (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8):
        labels = [np.where(m.max(0) > t, m.argmax(0) + 1, 0) for m in maps]
        expected[t] = miou(truths, labels)
    assert [p["threshold"] for p in score["curve"]] == list(expected)
    assert [p["miou"] for p in score["curve"]] == list(expected.values())
    best = max(expected, key=lambda t: expected[t].expected)
    assert score["threshold"] == best and score["miou"] == expected[best]
    assert score_of(folder, root, "--threshold", 0.7, 0.7, 0.1)["miou"] == expected[0.7]


def test_scores_with_background_are_decided_by_argmax(world):
    root, out, truths, _ = world
    rng = np.random.default_rng(2)

    def make(truth, n):
        score = rng.dirichlet([1] * 4, truth.shape).transpose(2, 0, 1)
        score[0] *= n != 3  # no background at all: channel 0 is left out of the last file
        return score

    maps = scored(folder := out.parent / "probability", truths, range(4), make)
    score = score_of(folder, root)
    assert score["miou"] == miou(truths, [m.argmax(0) for m in maps])
    assert score["curve"] == [] and score["threshold"] is None


def test_sweep_leaves_a_stored_background_out(world):
    root, out, truths, _ = world
    rng = np.random.default_rng(3)

    def make(truth, _):
        return np.concatenate([np.ones((1, *truth.shape)), rng.random((3, *truth.shape))])

    maps = scored(folder := out.parent / "seed", truths, range(4), make)
    labels = [np.where(m[1:].max(0) > 0.6, m[1:].argmax(0) + 1, 0) for m in maps]
    score = score_of(folder, root, "--sweep", "--threshold", 0.6, 0.6, 0.1)
    assert score["miou"] == miou(truths, labels) and score["threshold"] == 0.6


def test_restricted_to_tags(world):
    root, out, truths, predictions = world
    score = score_of(out, root, "--restrict-to-tags")
    known = [np.where(p <= 2, p, 0) for p in predictions[:3]] + [np.zeros_like(predictions[3])]
    assert score["miou"] == miou(truths, known) and score["absent"] == CLASSES[3:]


def test_comparison(world):
    root, out, truths, predictions = world
    other = out.parent / "other"
    for n, truth in enumerate(truths):
        write_mask(output_path(other, "label", f"image_{n}"), truth % 255)
    done = run(out, other, "--dataset", root)
    mean = miou(truths, predictions).expected
    assert done.stdout.splitlines()[-1] == f"miou {mean:.2f} 100.00"


def test_missing_extra_and_partial(world):
    root, out, truths, predictions = world
    output_path(out, "label", "image_2").unlink()
    done = run(out, "--dataset", root, code=1)
    assert "1 of 4 images in split 'val' have no prediction" in done.stderr
    assert "image_2" in done.stderr and not (out / "score.json").exists()
    write_mask(output_path(out, "label", "stranger"), truths[0] % 255)
    score = score_of(out, root, "--partial")
    del truths[2], predictions[2]
    assert score["images"] == 3 and score["miou"] == miou(truths, predictions)
    write_mask(output_path(out, "label", "image_2"), truths[0] % 255)
    assert "stranger" in run(out, "--dataset", root, code=1).stderr


def test_images_without_masks_are_left_out_of_the_score_where_asked(world):
    root, out, truths, predictions = world
    (root / "SegmentationClass/image_2.png").unlink()
    assert "no true mask" in run(out, "--dataset", root, code=1).stderr
    done = run(out, "--dataset", root, "--skip-without-masks", "--report", "--quiet")
    assert "1 of 4 images of set val have no true mask" in done.stdout
    del truths[2], predictions[2]
    score = json.loads((out / "score.json").read_text())
    assert score["images"] == 3 and score["miou"] == miou(truths, predictions)
    assert (out / "report.html").is_file()


def test_bad_input_is_one_sentence_and_leaves_nothing(world, tmp_path):
    root, out, truths, _ = world
    path = output_path(out, "label", "image_1")
    (tmp_path / "empty").mkdir()

    def refused(*arguments):
        message = run(*arguments, "--dataset", root, "--quiet", code=1).stderr
        assert not (out / "score.json").exists()
        return message

    assert "holds no predictions" in refused(tmp_path / "empty")
    assert "is not a folder" in refused(tmp_path / "nowhere")
    assert "no split 'test'" in refused(out, "--split", "test")
    assert "one folder" in refused(out, out, out)
    assert "--threshold" in refused(out, "--threshold", 0.5, 0.1, 0.1)
    write_mask(path, np.zeros((5, 6)))
    assert "prediction is 5 x 6, the truth 23 x 32" in refused(out)
    write_mask(path, np.full(truths[1].shape, 5))
    assert "image_1.png" in (message := refused(out)) and "class index 5" in message
    Image.fromarray(COLOURS[truths[1] % 255]).save(path)
    assert "datalist.prepare.masks" in refused(out)
    write_mask(path, truths[1] % 255)
    whole = path.read_bytes()
    path.write_bytes(whole[: -len(whole) // 6])
    assert "image_1.png is cut off" in refused(out)
    path.write_bytes(whole)
    (root / "SegmentationClass/image_1.png").unlink()
    assert "1 of 4 images have no true mask" in refused(out)


def test_report_flag_writes_one_page(world):
    root, out, *_ = world
    (out / "recipe.json").write_text('{"steps": 7}')
    done = run(out, "--dataset", root, "--report", "--quiet")
    page = (out / "report.html").read_text()
    assert "--report" in page and "steps" in page
    assert done.stdout.splitlines()[-2].startswith(str(out / "report.html"))
    assert "neither" in run(out, "--dataset", root, "--run", root, code=1).stderr


def test_script_evaluates_every_folder(world):
    root, out, truths, predictions = world
    other = out / "deeper" / "perfect"
    for n, truth in enumerate(truths):
        write_mask(output_path(other, "label", f"image_{n}"), truth % 255)
    write_mask(output_path(out / "foreign", "label", "stranger"), truths[0] % 255)
    command = ["bash", "script/evaluation.sh"]
    done = program.execute(command, DATASET=str(root), OUT=str(out), VIRTUAL_ENV=sys.prefix)
    assert done.stdout.count("\n== ") == 3  # each folder with its own table, then all of them
    rows = [line.split() for line in done.stdout.splitlines()[-4:]]
    assert rows == [
        ["mIoU", "predictions", "of", "val"],
        [f"{miou(truths, predictions).expected:.2f}", str(out)],
        ["100.00", str(other)],
        ["-", str(out / "foreign")],
    ]
    assert "no prediction" in done.stderr
    assert (other / "score.json").exists() and (other / "report.html").exists()
    done = program.execute(command, code=1, DATASET=str(root), OUT=str(root))
    assert "no predictions under" in done.stderr


def test_predictions_know_their_data_set(world, tmp_path):
    root, out, *_ = world
    assert "give --dataset" in run(out, "--quiet", code=1).stderr
    record = {"dataset": str(root), "root": "", "split": "val", "classes": CLASSES}
    (out / "predict.json").write_text(json.dumps(record))
    told = run(out, "--quiet").stdout
    assert told == run(out, "--dataset", root, "--split", "val", "--quiet").stdout
    # An earlier version wrote its command alone.
    (out / "predict.json").write_text(json.dumps({"command": f"test.py x --dataset {root}"}))
    assert run(out, "--quiet").stdout == told


def test_another_order_of_classes_is_refused(world):
    root, out, *_ = world
    record = {"dataset": str(root), "classes": [CLASSES[0], CLASSES[2], CLASSES[1], *CLASSES[3:]]}
    (out / "pseudo.json").write_text(json.dumps(record))
    for flags in ((), ("--dataset", root)):
        refusal = run(out, *flags, "--quiet", code=1).stderr
        assert "predictions of the classes background, dog, cat" in refusal
    assert not (out / "score.json").exists()
