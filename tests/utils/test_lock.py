"""Two runs never write into one folder at the same time; processes of one run may."""

import os
import signal
import subprocess
import sys
from functools import partial

import program
import pytest

from base import UserError
from base.file import locked

HOLD = """
import sys, time
from pathlib import Path
from base.file import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(3600)  # it is killed before
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the folder `out`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=program.ROOT)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


run = partial(program.run, python=sys.executable)
SCORE = ("--split", "train", "--save", "score", "--restrict-to-tags", "--quiet", "--out")


@pytest.fixture(scope="module")
def trained(scenes_root, tmp_path_factory):
    """A folder with a classifier, and the words that train it and make masks of its maps."""
    folder = tmp_path_factory.mktemp("trained")
    data = ("--dataset", scenes_root, "--quiet", "--out")
    train = ("train.py", "cam", "--recipe", "smoke", *data)
    run(*train, folder / "run")
    return folder / "run/last.pt", train, data


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_holder_is_named_and_a_killed_one_lets_go(tmp_path, holder):
    refusal = f"process {holder.pid} is at work in {tmp_path}/out"
    with pytest.raises(UserError, match=refusal), locked(tmp_path / "out"):
        pytest.fail("held twice")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(tmp_path / "out"):
        assert (tmp_path / "out/.lock").read_text() == f"{os.getpid()}\n"
    assert not list((tmp_path / "out").iterdir())


def test_a_refusal_leaves_no_folder(tmp_path):
    with pytest.raises(UserError, match="odd"), locked(tmp_path / "new/out"):
        raise UserError("odd")
    assert not (tmp_path / "new/out").exists()


def test_programs_refuse_a_folder_in_use(trained, tmp_path, holder):
    checkpoint, train, data = trained
    run("test.py", checkpoint, *SCORE, tmp_path / "seed")
    out = tmp_path / "out"
    for words in (train, ("test.py", checkpoint, *SCORE), ("pseudo.py", tmp_path / "seed", *data)):
        refusal = run(*words, out, code=1).stderr
        assert refusal.startswith(f"error: process {holder.pid} is at work in {out}")
    assert [path.name for path in out.iterdir()] == [".lock"]


def test_processes_of_one_run_share_the_folder(trained, tmp_path):
    """Two processes of test.py, and two of torchrun that make everything anew."""
    checkpoint, _, data = trained
    seed = tmp_path / "seed"
    predict = ("test.py", checkpoint, *SCORE, seed, "--device", "cpu")
    run(*predict, "--processes", "2")
    files = files_in(seed / "score")
    assert len(files) == 12
    torchrun = "-m torch.distributed.run --standalone --nproc-per-node 2"
    run(torchrun, *predict, "--fresh", "--scales", "1.5")
    assert files_in(seed / "score").keys() == files.keys()
    assert files_in(seed / "old-1/score") == files
    masks = ("pseudo.py", seed, *data)
    run(torchrun, *masks, tmp_path / "shared")
    run(*masks, tmp_path / "alone")
    shared, alone = (files_in(tmp_path / name / "label") for name in ("shared", "alone"))
    assert shared == alone and len(alone) == 12
