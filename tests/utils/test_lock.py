"""Two runs never write into one folder at the same time; processes of one run may."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from base import UserError
from base.file import locked

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from base.file import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the folder `out`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def start(*words, **environment):
    """A program of this repository, run to its end."""
    return subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


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


def test_programs_refuse_a_folder_in_use(scenes_root, tmp_path, holder):
    train = ("train.py", "cam", "--dataset", scenes_root, "--recipe", "smoke", "--quiet", "--out")
    refused = start(*train, tmp_path / "out")
    assert start(*train, tmp_path / "run").returncode == 0
    checkpoint = tmp_path / "run/last.pt"
    score = ("--split", "train", "--save", "score", "--restrict-to-tags", "--quiet", "--out")
    assert start("test.py", checkpoint, *score, tmp_path / "seed").returncode == 0
    masks = ("pseudo.py", tmp_path / "seed", "--dataset", scenes_root, "--quiet", "--out")
    for done in (
        refused,
        start("test.py", checkpoint, *score, tmp_path / "out"),
        start(*masks, tmp_path / "out"),
    ):
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: process {holder.pid} is at work in {tmp_path}/out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]


def test_processes_of_one_run_share_the_folder(scenes_root, tmp_path):
    """Two processes of test.py, and two of torchrun that make everything anew."""
    train = ("train.py", "cam", "--dataset", scenes_root, "--recipe", "smoke", "--quiet", "--out")
    assert start(*train, tmp_path / "run").returncode == 0
    score = ("--split", "train", "--save", "score", "--restrict-to-tags", "--quiet", "--out")
    program = ("test.py", tmp_path / "run/last.pt", *score, tmp_path / "seed", "--device", "cpu")
    done = start(*program, "--processes", "2")
    assert done.returncode == 0, done.stderr
    files = {p.name: p.read_bytes() for p in (tmp_path / "seed/score").iterdir()}
    assert len(files) == 12
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = start(*torchrun, *program, "--fresh", "--scales", "1.5")
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (tmp_path / "seed/score").iterdir()} == set(files)
    kept = {p.name: p.read_bytes() for p in (tmp_path / "seed/old-1/score").iterdir()}
    assert kept == files
    masks = ("pseudo.py", tmp_path / "seed", "--dataset", scenes_root, "--quiet", "--out")
    done = start(*torchrun, *masks, tmp_path / "shared")
    assert done.returncode == 0, done.stderr
    assert start(*masks, tmp_path / "alone").returncode == 0
    shared, alone = (
        {p.name: p.read_bytes() for p in (tmp_path / name / "label").iterdir()}
        for name in ("shared", "alone")
    )
    assert shared == alone and len(alone) == 12
