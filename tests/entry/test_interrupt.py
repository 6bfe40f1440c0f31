"""Ctrl-C at any moment of a program: one line, exit code 130, no traceback."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from made import layout
from program import ROOT

from datalist.image import write_mask
from utils.output import output_path, write_score


@pytest.fixture(scope="module")
def work(scenes_root, tmp_path_factory):
    """A data set of 400 images whose evaluation, masks and regions take seconds."""
    ids = [f"image{number:03d}" for number in range(400)]
    tags = dict.fromkeys(ids, (1, 2))
    root = layout(tmp_path_factory.mktemp("interrupt"), ("background", "cat", "dog"), tags)
    mask = np.kron(np.random.default_rng(0).integers(0, 3, (50, 50)), np.ones((12, 12), int))
    write_mask(root / "SegmentationClass/image000.png", mask.astype(np.uint8))
    write_mask(output_path(root / "out", "label", "image000"), mask)
    score = np.stack([mask == key for key in (1, 2)]) * 0.7
    write_score(output_path(root / "out", "score", "image000"), score, [1, 2], mask.shape)
    photo = (root / "out/label/image000.png").read_bytes()
    (root / "JPEGImages/image000.png").write_bytes(photo)
    for name in ids[1:]:
        for folder, suffix in (
            ("JPEGImages", "png"), ("SegmentationClass", "png"), ("out/label", "png"),
            ("out/score", "npz"),
        ):  # fmt: skip
            (root / folder / f"{name}.{suffix}").hardlink_to(root / folder / f"image000.{suffix}")
    return root


COMMANDS = {
    "evaluate": "evaluate.py {0}/out --dataset {0} --split train -j 1 --out {0}/x --report",
    "annotate": "-m utils.report.annotate {0}/out --format coco --dataset {0} --out {0}/x/a.json",
    "pseudo": "-m pseudo {0}/out --dataset {0} --out {0}/x/masks",
    "test": "test.py {0}/last.pt --dataset {0} --split train --out {0}/x/test --threads 1",
    "export": "export.py {0}/last.pt --out {0}/x/home",
}


@pytest.fixture(scope="module")
def network(work):
    """A network of that data set, trained for four steps."""
    command = f"train.py supervised --dataset {work} --recipe smoke --quiet --out {work}"
    subprocess.run([sys.executable, *command.split()], cwd=ROOT, check=True)


def interrupt(command, seconds):
    """Exit code and error output of a program that gets SIGINT after some seconds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    program = subprocess.Popen(
        [sys.executable, *command.split()], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    time.sleep(seconds)
    program.send_signal(signal.SIGINT)
    return program.communicate(timeout=60)[1], program.returncode


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_is_one_line(name, work, network):
    codes = []
    for seconds in (1.0, 2.5, 4.0):
        errors, code = interrupt(COMMANDS[name].format(work), seconds)
        assert "Traceback" not in errors, errors[-2000:]
        codes.append(code)
        if code == 130:  # else the signal came before or after the program's own block
            assert "interrupted" in errors or "run the same command to continue" in errors
    # A program that dies of the signal itself is 130 for a shell.
    assert set(codes) <= {0, 130, -signal.SIGINT} and any(codes)


def test_ctrl_c_in_a_destructor_is_not_lost():
    program = """
import signal, time
from base import entry

class Late:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

with entry():
    Late()
    time.sleep(20)
    print("not interrupted")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "interrupted; run the same command to continue\n"
