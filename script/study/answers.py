"""What a person's answers about maps bring: python -m script.study.answers DATASET --out OUT.

Plays the person with the masks of the training images: a group is the object if most of its pixels
are, and the size is the usual share of the class. Prints the number of answers, the sure masks of
the training images and SEC on val, without answers, with answers, and with 5 % of them wrong.
"""

import json
import os
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import tyro

from base import IGNORE, UserError, entry
from datalist.answer import NONE, SHARES, GroupFile, write_answers
from datalist.image import read_mask
from datalist.spec import Spec, resolve
from utils import metric


@dataclass(frozen=True)
class Flags:
    """What is asked about, and where the runs go."""

    dataset: Annotated[str, tyro.conf.Positional]
    """Folder in VOC layout with masks of the training images."""
    out: Path
    """Folder of the runs; what is there is used again."""
    wrong: float = 0.05
    """Share of wrong answers in the last row."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of SEC; none: the sure masks alone."""


def run(line: str, **environment: str) -> None:
    """Run a line of shell after script/chain.sh, as the chains do."""
    command = ["bash", "-c", f"set -- ; . script/chain.sh; {line}"]
    done = subprocess.run(command, env=os.environ | environment)
    if done.returncode:
        raise UserError(f"'{line}' ended with an error")


def answer(spec: Spec, groups: GroupFile) -> dict[tuple[int, str], str]:
    """Answers of a person who knows the true masks: class index and group, or "size"."""
    pixels, inside = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    shares: dict[int, list[float]] = {}
    for (name, index), code in groups.codes.items():
        truth = read_mask(spec.mask_path(name))
        shares.setdefault(index, []).append(float((truth == index).mean()))
        size = truth.shape[::-1]
        group = cv2.resize(code, size, interpolation=cv2.INTER_NEAREST)
        counted = (group != NONE) & (truth != IGNORE)
        for part, counter in ((counted, pixels), (counted & (truth == index), inside)):
            numbers, count = np.unique(group[part] // 2, return_counts=True)
            counter.update({(index, int(n)): int(c) for n, c in zip(numbers, count)})
    answers = {}
    for index, number in groups.asked:
        most = 2 * inside[index, number - 1] > pixels[index, number - 1]
        answers[index, str(number)] = "object" if most else "not"
    for index, share in shares.items():
        size = next(size for size, (_, most) in SHARES.items() if np.median(share) <= most)
        answers[index, "size"] = size
    return answers


def with_errors(answers: dict[tuple[int, str], str], share: float) -> dict[tuple[int, str], str]:
    """The same answers, of which a share, and at least one, is wrong; not those about sizes."""
    keys = [key for key, value in answers.items() if value in ("object", "not")]
    chosen = np.random.default_rng(0).permutation(len(keys))[: max(1, round(share * len(keys)))]
    other = {"object": "not", "not": "object"}
    return answers | {keys[n]: other[answers[keys[n]]] for n in chosen}


def measure_sure(spec: Spec, folder: Path) -> str:
    """MIoU of sure masks over their sure pixels, and the share of these."""
    matrix, total = np.zeros((spec.num_classes, spec.num_classes), np.int64), 0
    for name in spec.ids("train"):
        truth, label = read_mask(spec.mask_path(name)), read_mask(folder / f"{name}.png")
        total += int((truth != IGNORE).sum())
        truth[label == IGNORE], label[label == IGNORE] = IGNORE, 0
        matrix += metric.confusion(truth, label, spec.num_classes)
    miou = 100 * metric.scores(matrix).miou
    return f"{miou:.1f} on {100 * matrix.sum() / total:.0f} %"


def main(flags: Flags) -> None:
    """Make what is missing, and print the table."""
    out = flags.out.resolve()
    data = {"DATASET": str(Path(flags.dataset).resolve()), "OUT": str(out / "tags"), "ANSWERS": ""}
    spec = resolve(data["DATASET"])
    cue = out / "tags/cue"
    run('make_sure "$OUT/cue"', **data)
    groups = GroupFile.read(cue / "seed/groups.npz")
    right = answer(spec, groups)
    rows = [("tags", 0, cue)]
    for name, answers in (("answers", right), ("wrong", with_errors(right, flags.wrong))):
        folder = out / name
        folder.mkdir(exist_ok=True)
        write_answers(folder / "answers.csv", spec.classes, answers, groups.checksum)
        (folder / "cue").mkdir(exist_ok=True)
        for part in ("cam", "seed"):
            if not (folder / "cue" / part).exists():
                (folder / "cue" / part).symlink_to(cue / part)
        given = {"OUT": str(folder), "ANSWERS": str(folder / "answers.csv")}
        run('make_sure "$OUT/cue"', **data | given)
        rows.append((name, len(answers), folder / "cue"))
    print("| what is known | answers | sure masks (train) | SEC (val) |\n|---|---|---|---|")
    wrong = f"tags and answers, {flags.wrong:.0%} wrong"
    titles = {"tags": "tags", "answers": "tags and answers", "wrong": wrong}
    for name, count, folder in rows:
        numbers = []
        for seed in flags.seeds:
            sec = out / name / f"sec-{seed}"
            if not (sec / "score.json").is_file():
                sizes = f"--answers {out / name}/answers.csv" if count else ""
                settings = {"CUE": str(folder / "sure/label"), "SEED": str(seed), "SEC": sizes}
                run("bash script/sec.sh", **data | settings | {"OUT": str(sec)})
            numbers.append(json.loads((sec / "score.json").read_text())["miou"])
        scores = ", ".join(f"{number:.1f}" for number in numbers) or "-"
        sure = measure_sure(spec, folder / "sure/label")
        print(f"| {titles[name]} | {count} | {sure} | {scores} |")


if __name__ == "__main__":
    with entry():
        main(tyro.cli(Flags, description=__doc__))
