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
from base.thread import NETWORKS
from datalist.spec import resolve
from method import build_stage
from train import command
from utils.distributed import choose_device
from utils.draws import Draws
from utils.loop import to_device
from utils.machine import keep_freed_memory

TIMED = 2
"""Steps that are timed, after one that is not."""
EXTRA = 0.5
"""Time of predictions and CRF, as a share of the training's."""
LONGER = 1.8
"""Longest run measured, as a multiple of the shortest that the timed steps allow."""


def training_seconds(stage: Any, device: torch.device) -> float:
    """Time of a training on the stage's own images; of one that keeps features, that of these."""
    data, solver = stage.images(), stage.recipe.solver
    kept = getattr(stage, "constant", False)
    batch = NETWORKS if kept else solver.batch
    draws = Draws(len(data), batch, 0, TIMED + 1, solver.seed)
    stage.network.to(device, memory_format=torch.channels_last).train()
    start = 0.0
    for step, sample in enumerate(DataLoader(data, batch_sampler=draws)):
        if step == 1:
            start = monotonic()
        image = to_device(sample, device)["image"]
        if kept:
            stage.features(image)
        else:
            Context().run(stage.network, image).float().sum().backward()
    seconds = (monotonic() - start) / TIMED
    steps = len(data) * data.variants / batch if kept else solver.total_steps(len(data))
    return steps * seconds


def main(folder: str, flags: list[str]) -> None:
    """Print how long the chain will take; `flags` are those of train.py."""
    keep_freed_memory()
    spec = resolve(folder)
    device = choose_device("auto")
    seconds = 0.0
    for name in ("cam", "sec"):
        value, _ = command(name, ["--dataset", folder, "--out", "unused", *flags])
        value = replace(value, backbone=replace(value.backbone, weights="none"))
        seconds += training_seconds(build_stage(name, value, spec), device)
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
