"""Several processes: the numbers of one, the messages of one, and no process left alone."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from base import UserError
from utils import checkpoint
from utils.distributed import World, choose_device, read_world

HERE = Path(__file__).resolve().parent
PROGRAM = """
import sys, torch
from pathlib import Path
sys.path.insert(0, {here!r})
import tiny
from utils import distributed
from utils.loop import Run, train
torch.set_num_threads(1)
world = distributed.read_world()
out = Path(sys.argv[1])
class Case(tiny.Tiny):
    def losses(self, batch, context):
        {fault}
        return super().losses(batch, context)
    def after_step(self):
        if world.main and not (out / "gradient.pt").exists():
            torch.save([p.grad for p in self.network.parameters()], out / "gradient.pt")
run = Run(out, device="cpu", quiet=True, picture_every=0, log_every=1)
with distributed.joined(world, torch.device("cpu")):
    train(Case(tiny.change(tiny.TINY, steps=6, batch={batch})), "tiny", run, world)
"""


def launch(
    folder: Path, processes: int, fault: str = "pass", batch: int = 4
) -> subprocess.CompletedProcess:
    """Run the tiny stage under torchrun, or alone; its folder is named by the processes."""
    program = folder / "program.py"
    program.write_text(
        textwrap.dedent(PROGRAM.format(here=str(HERE), fault=fault, batch=batch)), "utf-8"
    )
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        command += [str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, str(program), str(folder / f"{processes}")],
        capture_output=True, text=True, timeout=240, env=environment,
    )  # fmt: skip


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("processes, batch", [(2, 5), (3, 7), (4, 7)])
def test_processes_have_the_losses_and_gradients_of_one(tmp_path, processes, batch):
    """The batch does not divide evenly, so the processes' shares have different weights."""
    for count in (1, processes):
        result = launch(tmp_path, count, batch=batch)
        assert result.returncode == 0, result.stderr
    folders = [tmp_path / str(count) for count in (1, processes)]
    alone, shared = map(lines, folders)
    assert len(alone) == 6
    assert [line["step"] for line in shared] == [line["step"] for line in alone]
    for a, b in zip(alone, shared):
        assert a.keys() == b.keys()
        assert b == pytest.approx(a, abs=1e-5)
    gradients = [torch.load(folder / "gradient.pt", weights_only=True) for folder in folders]
    assert all(gradient.abs().max() > 1e-4 for gradient in gradients[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-5)
    states = [checkpoint.load(folder / "last.pt")["network"] for folder in folders]
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=1e-5)


def test_all_fail_when_one_dies(tmp_path):
    result = launch(
        tmp_path, 2, "if context.step == 3 and world.rank == 1: import os; os.kill(os.getpid(), 9)"
    )
    assert result.returncode != 0
    assert len(lines(tmp_path / "2")) <= 4


def test_environment_of_torchrun(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert read_world() == World(0, 1, 0, 1)
    for name, value in zip(("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"), "5814"):
        monkeypatch.setenv(name, value)
    assert read_world() == World(5, 8, 1, 4)


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
