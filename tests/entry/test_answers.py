"""From maps to questions, and from answers to sure masks, as a user runs the programs."""

import csv

import pytest
from program import run

from datalist.answer import GroupFile
from datalist.image import read_mask
from datalist.spec import resolve


@pytest.fixture(scope="module")
def maps(scenes_root, tmp_path_factory):
    """A classifier of a dozen scenes, its maps, and the questions about them."""
    out = tmp_path_factory.mktemp("answers")
    data = ("--dataset", scenes_root, "--quiet")
    run("train.py", "cam", *data, "--recipe", "smoke", "--out", out / "cam")
    score = ("--split", "train", "--save", "score", "--restrict-to-tags", "--out", out / "seed")
    run("test.py", out / "cam/last.pt", *score, "--quiet")
    return out


def ask(maps, scenes_root, masks):
    page = ("--dataset", scenes_root, "--page", maps / "questions.html", "--quiet")
    page += ("--masks", masks)
    return run("-m script.questions", maps / "cam/last.pt", maps / "seed", *page).stdout


@pytest.mark.parametrize("contrast", ["off", "on"])
def test_answers_change_the_sure_masks(maps, scenes_root, tmp_path, contrast):
    pseudo = ("pseudo.py", maps / "seed", "--dataset", scenes_root, "--purpose", "sure")
    pseudo += ("--recipe", "smoke", "--quiet", "--out", tmp_path / "sure")
    run(*pseudo, "--contrast", contrast)
    assert "questions about" in ask(maps, scenes_root, tmp_path / "sure")
    before = (maps / "questions.html").stat().st_mtime_ns
    assert "holds the questions" in ask(maps, scenes_root, tmp_path / "sure")  # nothing to do
    assert (maps / "questions.html").stat().st_mtime_ns == before
    groups = GroupFile.read(maps / "seed/groups.npz")
    assert groups.contrast == (contrast == "on")
    spec = resolve(str(scenes_root))
    labels = {name: read_mask(tmp_path / f"sure/label/{name}.png") for name in spec.ids("train")}

    def count(index, labels):
        return sum((label == index).sum() for label in labels.values())

    rejected = max(range(1, 7), key=lambda k: count(k, labels))
    answers = tmp_path / "answers.csv"

    def write(*rows):
        with open(answers, "w", newline="") as file:
            csv.writer(file).writerows([["class", "group", "answer"], *rows])
        return "--answers", answers

    numbers = {n // 2 + 1 for (_, k), code in groups.codes.items() for n in code[code < 255]
               if k == rejected}  # fmt: skip
    rows = [[spec.classes[rejected], number, "not"] for number in sorted(numbers)]
    given = (*write(*rows), "--contrast", contrast)
    assert "answers: None" in run(*pseudo, *given, code=1).stderr  # other masks are there
    run(*pseudo, *given, "--fresh")
    for name, label in labels.items():
        new = read_mask(tmp_path / f"sure/label/{name}.png")
        changed = label != new
        assert (label[changed] == rejected).all() and (new[changed] == 255).all()
        code = groups.codes.get((name, rejected))
        if code is not None and (code < 255).all():
            assert not (new == rejected).any()
    assert any((label == rejected).any() for label in labels.values())
    write(*rows, [spec.classes[rejected], "size", "most"])
    run(*pseudo, *given)  # nothing is larger than that
    other = max(set(range(1, 7)) - {rejected}, key=lambda k: count(k, labels))
    write([spec.classes[other], "size", "speck"])
    assert spec.classes[other] in run(*pseudo, *given, "--fresh").stdout
    small = {name: read_mask(tmp_path / f"sure/label/{name}.png") for name in labels}
    assert count(other, small) < count(other, labels)
    assert count(0, small) == count(0, labels)
    write(*rows, [spec.classes[rejected], 99, "not"])
    assert "has no group 99" in run(*pseudo, *given, code=1).stderr
    write(*rows)
    given = (*given[:-1], "on" if contrast == "off" else "off")
    assert "answer the new page" in run(*pseudo, *given, code=1).stderr


def test_bad_input_is_refused(maps, scenes_root, tmp_path):
    pseudo = ("pseudo.py", maps / "seed", "--dataset", scenes_root, "--recipe", "smoke")
    pseudo += ("--out", tmp_path / "sure")
    assert "cannot read" in run(*pseudo, "--answers", tmp_path / "none.csv", code=1).stderr
    assert "--answers" in run(*pseudo, "--groups", maps / "x.npz", code=1).stderr
    page = ("--dataset", scenes_root, "--page", tmp_path / "q.html")
    lost = run("-m script.questions", maps / "cam/last.pt", tmp_path, *page, code=1)
    assert "has no maps" in lost.stderr and not (tmp_path / "q.html").exists()
