"""What tests make by hand: data sets in VOC layout, and checkpoints of small stages."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from recipes import change, recipe_of

from datalist.folder import LISTS, write_lines, write_tags
from datalist.spec import Spec
from method import stage_class
from utils import checkpoint

CLASSES = ("background", *(f"class{k}" for k in range(1, 15)))


def layout(
    root: Path, classes: Iterable[str], tags: Mapping[str, Iterable[int]] = {}, **lists: list[str]
) -> Path:
    """The folders of a data set, with classes.txt, tags.csv (class indices) and lists of ids."""
    for name in ("JPEGImages", "SegmentationClass", LISTS):
        (root / name).mkdir(parents=True)
    write_lines(root / "classes.txt", classes)
    for split, ids in (lists or {"train": list(tags)}).items():
        write_lines(root / LISTS / f"{split}.txt", ids)
    if tags:
        write_tags(root / "tags.csv", tags, list(classes))
    return root


def saved(
    folder: Path, name: str = "sec", classes: tuple[str, ...] = CLASSES, recipe: str = "smoke",
    scale: float = 1.0, seed: int = 3, **changes: Any,
) -> tuple[Path, Any]:  # fmt: skip
    """Checkpoint of a stage with random weights, times `scale`, and the stage, to predict with."""
    torch.manual_seed(seed)
    spec = Spec(name="x", root=folder, classes=classes, lists={})
    stage = stage_class(name)(change(recipe_of(name, recipe), dataset=str(folder), **changes), spec)
    for parameter in stage.network.parameters():
        parameter.data.mul_(scale)
    stage.network.eval()
    content = {
        "stage": name, "recipe": asdict(stage.recipe), "classes": list(classes), "step": 4,
        "network": stage.network.state_dict(),
    }  # fmt: skip
    checkpoint.save(folder / "last.pt", content)
    return folder / "last.pt", stage
