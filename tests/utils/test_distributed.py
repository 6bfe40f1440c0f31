"""Several processes: the numbers of one, the messages of one, and no process left alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from base import UserError
from utils import checkpoint
from utils.distributed import World, choose_device, read_world

PROGRAM = Path(__file__).with_name("several.py")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def launch(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Folders of runs of one process and of several, by processes and batch."""
    folder = tmp_path_factory.mktemp("several")
    result = launch(PROGRAM, folder, "1x5", "2x5", "1x7", "3x7", "4x7")
    assert result.returncode == 0, result.stderr
    return folder


def same(alone: Path, shared: Path) -> None:
    """Fail where two runs differ in losses, first gradients or weights."""
    logs = lines(alone), lines(shared)
    assert len(logs[0]) == len(logs[1]) == 6
    for a, b in zip(*logs):
        assert a.keys() == b.keys() >= {"step", "loss", "pixel", "image"}
        assert b == pytest.approx(a, abs=1e-5)
    paths = (folder / "gradient.pt" for folder in (alone, shared))
    gradients = [torch.load(path, weights_only=True) for path in paths]
    assert all(gradient.abs().max() > 1e-4 for gradient in gradients[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-5)
    states = [checkpoint.load(folder / "last.pt")["network"] for folder in (alone, shared)]
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("processes, batch", [(2, 5), (3, 7), (4, 7)])
def test_processes_have_the_losses_and_gradients_of_one(runs, processes, batch):
    """The batch does not divide evenly, so the processes' shares have different weights."""
    same(runs / f"1x{batch}", runs / f"{processes}x{batch}")


def test_processes_of_torchrun_do_the_same(runs, tmp_path):
    result = launch(*TORCHRUN, PROGRAM, tmp_path / "run", 7)
    assert result.returncode == 0, result.stderr
    same(runs / "1x7", tmp_path / "run")


def test_all_fail_when_one_dies(tmp_path):
    result = launch(*TORCHRUN, PROGRAM, tmp_path / "run", 4, 3)
    assert result.returncode != 0 and "-9" in result.stderr
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2, 3]
    assert checkpoint.newest(tmp_path / "run") is None


def test_environment_of_torchrun(monkeypatch, capsys):
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    for name in (*names, "MASTER_ADDR", "MASTER_PORT", "SLURM_NTASKS", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    assert read_world() == World(0, 1, 0, 1)
    assert not capsys.readouterr().err
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert read_world() == World(0, 1, 0, 1)
    assert "Slurm has 4 tasks, but this process works alone" in capsys.readouterr().err
    for name, value in zip(names, "5814"):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="not MASTER_ADDR and MASTER_PORT: start with torchrun"):
        read_world()
    monkeypatch.setenv("MASTER_ADDR", "node0")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert read_world() == World(5, 8, 1, 4)


def test_devices_that_are_not_there_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(UserError, match="no CUDA device"):
        choose_device("cuda")
    for name in ("gpu7", "meta"):
        with pytest.raises(UserError, match="give auto, cpu, cuda"):
            choose_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto", World(5, 8, 1, 2)) == torch.device("cuda", 1)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    for name, world, refusal in (
        ("cuda:2", None, "has 2 CUDA devices"), ("cuda", World(2, 3, 2, 3), "start 2 processes"),
        ("cuda:0", World(0, 2, 0, 2), "would share it"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=refusal):
            choose_device(name, world)
