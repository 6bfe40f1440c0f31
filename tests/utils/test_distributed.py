"""Several processes: the numbers of one, the messages of one, and no process left alone."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import tiny
import torch

from base import UserError
from utils import checkpoint
from utils.distributed import World, choose_device, world

HERE = Path(__file__).resolve().parent
PROGRAM = """
import sys, torch
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {here!r})
import tiny
from utils import distributed
from utils.loop import Run, train
torch.set_num_threads(1)
place = distributed.world()
class Case(tiny.Tiny):
    def losses(self, batch, step):
        {fault}
        return super().losses(batch, step)
run = Run(Path(sys.argv[1]), device="cpu", quiet=True, picture_every=0, log_every=1)
with distributed.joined(place, torch.device("cpu")):
    train(Case(replace(tiny.TINY, steps=6)), "tiny", run, place)
"""


def launch(folder: Path, processes: int, fault: str = "pass") -> subprocess.CompletedProcess:
    """Run the tiny stage under torchrun."""
    program = folder / "program.py"
    program.write_text(textwrap.dedent(PROGRAM.format(here=str(HERE), fault=fault)))
    out = folder / f"{processes}"
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command, str(program), str(out)],
        capture_output=True, text=True, timeout=240, env=environment,
    )  # fmt: skip


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_two_processes_have_the_losses_of_one(tmp_path):
    tiny.run_in(tmp_path / "1", tiny.replace(tiny.TINY, steps=6), log_every=1)
    result = launch(tmp_path, 2)
    assert result.returncode == 0, result.stderr
    one, two = lines(tmp_path / "1"), lines(tmp_path / "2")
    assert len(one) == 6 and [line["step"] for line in two] == [line["step"] for line in one]
    for a, b in zip(one, two):
        assert a.keys() == b.keys()
        assert b == pytest.approx(a, abs=1e-5)
    states = [checkpoint.load(tmp_path / name / "last.pt")["network"] for name in "12"]
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=0, atol=1e-5)


def test_all_fail_when_one_dies(tmp_path):
    result = launch(
        tmp_path, 2, "if step == 3 and place.rank == 1: import os; os.kill(os.getpid(), 9)"
    )
    assert result.returncode != 0
    assert len(lines(tmp_path / "2")) <= 4


def test_environment_of_torchrun(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert world() == World(0, 1, 0, 1)
    for name, value in zip(("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"), "5814"):
        monkeypatch.setenv(name, value)
    assert world() == World(5, 8, 1, 4)


def test_devices_that_are_not_there_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(UserError, match="no CUDA device"):
        choose_device("cuda")
    with pytest.raises(UserError, match="give auto, cpu, cuda"):
        choose_device("gpu7")
    with pytest.raises(UserError, match="give auto, cpu, cuda"):
        choose_device("meta")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto", World(5, 8, 1, 2)) == torch.device("cuda", 1)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UserError, match="has 2 CUDA devices"):
        choose_device("cuda:2")
    with pytest.raises(UserError, match="start 2 processes"):
        choose_device("cuda", World(2, 3, 2, 3))
    with pytest.raises(UserError, match="would share it"):
        choose_device("cuda:0", World(0, 2, 0, 2))
