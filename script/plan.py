"""Say how long the training of photographs will take: python -m script.plan FOLDER [flags].

Times a few steps of the classifier and of SEC on this machine. The flags are those of train.py.
"""

from dataclasses import dataclass, replace
from time import monotonic
from typing import Annotated, Any

import torch
import tyro
from torch.utils.data import DataLoader

from base import entry
from base.contract import Context
from datalist.spec import resolve
from method import build_stage
from train import command
from utils.distributed import choose_device
from utils.draws import Draws
from utils.loop import to_device
from utils.machine import keep_freed_memory

TIMED = 3
"""Steps that are timed, after one that is not."""
EXTRA = 0.5
"""Time of predictions and CRF, as a share of the training's."""
LONGER = 1.8
"""Longest run measured, as a multiple of the shortest that the timed steps allow."""


def seconds_per_step(stage: Any, device: torch.device) -> float:
    """Time of one training step, forward and backward, on the stage's own images."""
    data = stage.images()
    solver = stage.recipe.solver
    loader = DataLoader(
        data, batch_sampler=Draws(len(data), solver.batch, 0, TIMED + 1, solver.seed)
    )
    stage.network.to(device, memory_format=torch.channels_last).train()
    start = 0.0
    for step, batch in enumerate(loader):
        if step == 1:
            start = monotonic()
        output = Context().run(stage.network, to_device(batch, device)["image"])
        output.float().sum().backward()
    return (monotonic() - start) / TIMED


def main(folder: str, flags: list[str]) -> None:
    """Print how long the chain will take; `flags` are those of train.py."""
    keep_freed_memory()
    spec = resolve(folder)
    device = choose_device("auto")
    seconds = 0.0
    for name in ("cam", "sec"):
        value, _ = command(name, ["--dataset", folder, "--out", "unused", *flags])
        value = replace(value, backbone=replace(value.backbone, weights="none"))
        stage = build_stage(name, value, spec)
        steps = value.solver.total_steps(len(spec.ids(value.data.split)))
        seconds += steps * seconds_per_step(stage, device)
    count = len(spec.ids("train"))
    low = (1 + EXTRA) * seconds / 60
    high = max(low * LONGER, low + 1)
    time = f"{low:.0f} to {high:.0f} minutes" if low >= 1 else f"up to {high:.0f} minutes"
    print(f"{count} photographs, {len(spec.classes) - 1} classes: {time} on a free machine")


@dataclass(frozen=True)
class Flags:
    """Those of this program; all others are train.py's."""

    folder: Annotated[str, tyro.conf.Positional]
    """Folder of a data set."""


if __name__ == "__main__":
    with entry():
        own, rest = tyro.cli(Flags, description=__doc__, return_unknown_args=True)
        main(own.folder, rest)
