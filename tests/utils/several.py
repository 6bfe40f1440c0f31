"""Train the tiny stage in several processes, of torchrun or forked here, which starts faster.

python several.py OUT BATCH [STEP]: one of torchrun's processes; the second dies at that step.
python several.py OUT PROCESSESxBATCH ...: each in OUT/PROCESSESxBATCH, one after the other.
"""

import os
import signal
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import tiny
import torch
import torch._dynamo  # takes seconds, and each optimizer imports it: once, before the forks

from utils import distributed
from utils.flags import Train
from utils.loop import train


class Case(tiny.Tiny):
    """The tiny stage, which writes its first gradient down, or dies."""

    def __init__(self, batch: int, out: Path, world: distributed.World, death: int):
        super().__init__(tiny.change(tiny.TINY, steps=6, batch=batch))
        self.out, self.world, self.death = out, world, death

    def losses(self, batch, context):
        if context.step == self.death and self.world.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().losses(batch, context)

    def after_step(self):
        path = self.out / "gradient.pt"
        if self.world.main and not path.exists():
            torch.save([p.grad for p in self.network.parameters()], path)


def work(out: Path, batch: int, death: int = -1) -> None:
    torch.set_num_threads(1)
    world = distributed.read_world()
    run = Train(out, device="cpu", quiet=True, picture_every=0, log_every=1)
    with distributed.joined(world, torch.device("cpu")):
        train(Case(batch, out, world, death), "tiny", run, world)


def fork(out: Path, processes: int, batch: int) -> None:
    """Start processes that meet as those of torchrun do, and wait for them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(processes):
        child = os.fork()
        if not child:
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(processes)}
            work(out, batch)
            sys.exit()
        children.append(child)
    ends = [os.waitpid(child, 0)[1] for child in children]
    if any(ends):
        sys.exit(f"{processes} processes with a batch of {batch} failed")


if __name__ == "__main__":
    folder, *words = sys.argv[1:]
    if "RANK" in os.environ:
        work(Path(folder), *map(int, words))
    else:
        for word in words:
            fork(Path(folder, word), *map(int, word.split("x")))
