#!/usr/bin/env python
"""Predict with a checkpoint: python test.py CHECKPOINT --out DIR [flags]."""

# First, so that Ctrl-C during the other imports ends in one line.
from base import UserError, entry

# isort: split
import os

# Before torch: the threads of a network would spin between layers, and take the processors from
# those that decode and write. With a small network that is most of the time.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# isort: split
import sys
from dataclasses import replace
from glob import glob
from pathlib import Path

import torch
import tyro

from datalist.tag import read_tags
from method.restore import restore
from utils import checkpoint, distributed
from utils.allocator import keep_freed_memory
from utils.distributed import World, choose_device
from utils.infer import Predict, check, cores, needs_tags, predict_split
from utils.output import output_path
from utils.record import keep_settings


def open_stage(path: Path, dataset: str, root: str, predict: Predict):
    """Load a stage, refuse what it cannot do, and note how the folder's files are made."""
    content = checkpoint.load(path)
    if predict.presence is not None:
        content["recipe"] = with_presence(path, content["recipe"], predict.presence)
    stage = restore(path, content, dataset, root, bool(predict.image))
    check(stage, predict)
    if not predict.image:
        ids = stage.spec.ids(predict.split) if needs_tags(predict) else []
        keep_settings(predict, path, read_tags(stage.spec, ids) if ids else {})
    return stage


def with_presence(path: Path, recipe: dict, presence: float) -> dict:
    """A stored recipe with another threshold of presence.

    Errors: UserError for a stage that has none.
    """
    groups = [
        name for name, group in recipe.items() if isinstance(group, dict) and "presence" in group
    ]
    if not groups:
        raise UserError(f"{path}: this stage does not find classes itself: leave --presence out")
    return recipe | {groups[0]: recipe[groups[0]] | {"presence": float(presence)}}


def work(
    rank: int, world: World, path: Path, dataset: str, root: str, predict: Predict
) -> list[str]:
    """One of several processes: its share of the images on its own device or threads.

    Args:
        rank: number of a process that this program started; torchrun's have theirs in `world`.
        world: the processes there are.
        path, dataset, root, predict: as in `main`.
    """
    keep_freed_memory()
    if rank:
        world = replace(world, rank=rank, local_rank=rank)
    device = choose_device(predict.device, world)
    threads = max(1, (predict.threads or cores()) // world.local_size)
    if device.type == "cpu":
        torch.set_num_threads(max(1, cores() // world.local_size))
    stage = open_stage(path, dataset, root, predict)
    return predict_split(stage, predict, device, threads, (world.rank, world.size))


def expand(path: Path) -> list[str]:
    """Files that a path with wildcards names; another path as it is.

    The shell leaves a pattern alone in quotes, on Windows, and where it finds nothing.
    """
    if path.exists() or not set("*?[") & set(str(path)):
        return [str(path)]
    matches = sorted(glob(str(path), recursive=True))
    if not matches:
        raise UserError(f"no file matches --image {path}.")
    return matches


def spawned(rank: int, errors: list[str], *arguments) -> None:
    """`work` in a process of its own: its result goes to `errors`, an error ends in a sentence."""
    with entry("test.py"):
        errors.extend(work(rank, *arguments))


def prepare(predict: Predict, path: Path) -> Predict:
    """Fill in what pictures of people want, and where the files go."""
    if not predict.image:
        return replace(predict, out=predict.out or path.parent / predict.split)
    images = tuple(Path(name) for image in predict.image for name in expand(image))
    save = predict.save if predict.save != ("label",) else ("label", "overlay")  # to look at
    return replace(predict, out=predict.out or Path("out/photo"), image=images, save=save)


def tell(predict: Predict, errors: list[str]) -> None:
    """Say where the files are, and which pictures have none."""
    if errors:
        reasons = "; ".join(reason.rstrip(".") for reason in errors)
        raise UserError(f"left out: {reasons} (files of the others are in {predict.out})")
    folders = ", ".join(str(predict.out / name) for name in predict.save)
    if len(predict.image) == 1 and predict.image[0].is_file() and "overlay" in predict.save:
        print(f"look at {output_path(predict.out, 'overlay', predict.image[0].stem)}")
    else:
        print(f"files in {folders}")


def main(
    path: tyro.conf.Positional[Path],
    predict: tyro.conf.OmitArgPrefixes[Predict],
    dataset: str = "",
    root: str = "",
) -> None:
    """Predict with a checkpoint of train.py and write label, score, overlay or cue files.

    Args:
        path: the checkpoint, OUT/last.pt of train.py
        dataset: voc, coco, scenes or a folder; empty: the one trained on
        root: where voc, coco or scenes lies
    """
    predict = prepare(predict, path)
    world = distributed.read_world()
    if world.size > 1:  # torchrun shares the list out
        if predict.fresh:
            raise UserError("--fresh does not go with torchrun: give --processes instead")
        errors = work(0, world, path, dataset, root, predict)
        if errors:  # the other processes have theirs to do
            print(f"test.py: left out: {'; '.join(errors)}", file=sys.stderr)
        return
    device = choose_device(predict.device)
    every = device.type == "cuda" and predict.device in ("auto", "cuda")
    count = predict.processes or (torch.cuda.device_count() if every else 1)
    if count == 1:
        errors = work(0, world, path, dataset, root, predict)
    else:
        open_stage(path, dataset, root, predict)  # refuse here, not in every process
        world = World(0, count, 0, count)
        errors = torch.multiprocessing.Manager().list()
        arguments = (errors, world, path, dataset, root, predict)
        try:
            torch.multiprocessing.spawn(spawned, arguments, nprocs=count)
        except torch.multiprocessing.ProcessExitedException:
            sys.exit(1)  # the process has said why
    tell(predict, list(errors))


if __name__ == "__main__":
    with entry("test.py"):
        tyro.cli(main, config=(tyro.conf.FlagCreatePairsOff,), prog="test.py")
