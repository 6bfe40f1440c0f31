"""What the programs in this folder share: the flags of a data set, and stages ready to use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from datalist.spec import resolve
from method import build_stage
from method.restore import restore
from utils import checkpoint


@dataclass(frozen=True)
class DataFlags:
    """Data set."""

    dataset: str = ""
    """voc, coco, scenes or a folder; empty: the one trained on."""
    root: str = ""
    """Where voc, coco or scenes lies, if not in its default folder."""


def open_stage(path: Path, data: DataFlags) -> Any:
    """The stage of a checkpoint, on the CPU, ready to predict."""
    stage = restore(path, checkpoint.load(path), data.dataset, data.root)
    stage.network.eval()
    return stage


def start_stage(name: str, recipe: Any) -> Any:
    """A stage ready to train; prints where its weights come from."""
    spec = resolve(recipe.data.dataset, recipe.data.root or None)
    torch.manual_seed(recipe.solver.seed)
    stage = build_stage(name, recipe, spec)
    print(stage.load())
    return stage


def device_of(stage: Any) -> torch.device:
    """Where a stage's network lies."""
    return next(stage.network.parameters()).device
