#!/usr/bin/env python
"""Predict with a checkpoint: python test.py CHECKPOINT --out DIR [flags]."""

import sys
from dataclasses import replace
from glob import glob
from pathlib import Path

import torch
import tyro

from base import UserError, entry
from method.restore import restore
from utils import checkpoint, distributed
from utils.distributed import World, choose_device
from utils.infer import Predict, check, cores, predict_split
from utils.output import output_path
from utils.record import keep_settings


def open_stage(path: Path, dataset: str, root: str, predict: Predict):
    """Load a stage, refuse what it cannot do, and note how the folder's files are made."""
    stage = restore(path, checkpoint.load(path), dataset, root, bool(predict.image))
    check(stage, predict)
    if not predict.image:
        keep_settings(predict, path)
    return stage


def work(
    rank: int, place: World, path: Path, dataset: str, root: str, predict: Predict
) -> list[str]:
    """One of several processes: its share of the images on its own device or threads.

    Args:
        rank: number of a process that this program started; torchrun's have theirs in `place`.
        place: the processes there are.
        path, dataset, root, predict: as in `main`.
    """
    if rank:
        place = replace(place, rank=rank, local_rank=rank)
    device = choose_device(predict.device, place)
    threads = max(1, (predict.threads or cores()) // place.local_size)
    if device.type == "cpu":
        torch.set_num_threads(max(1, cores() // place.local_size))
    stage = open_stage(path, dataset, root, predict)
    return predict_split(stage, predict, device, threads, (place.rank, place.size))


def expand(path: Path) -> list[str]:
    """Files that a path with wildcards names; another path as it is.

    The shell leaves a pattern alone in quotes, on Windows, and where it finds nothing.
    """
    if path.exists() or not set("*?[") & set(str(path)):
        return [str(path)]
    found = sorted(glob(str(path), recursive=True))
    if not found:
        raise UserError(f"no file matches --image {path}.")
    return found


def spawned(rank: int, broken: list[str], *arguments) -> None:
    """`work` in a process of its own: its result goes to `broken`, an error ends in a sentence."""
    with entry("test.py"):
        broken.extend(work(rank, *arguments))


def prepare(predict: Predict, path: Path) -> Predict:
    """Fill in what pictures of people want, and where the files go."""
    if not predict.image:
        return replace(predict, out=predict.out or path.parent / predict.split)
    images = tuple(Path(name) for image in predict.image for name in expand(image))
    save = predict.save if predict.save != ("label",) else ("label", "overlay")  # to look at
    return replace(predict, out=predict.out or Path("out/photo"), image=images, save=save)


def tell(predict: Predict, broken: list[str]) -> None:
    """Say where the files are, and which pictures have none."""
    if broken:
        reasons = "; ".join(reason.rstrip(".") for reason in broken)
        raise UserError(f"left out: {reasons} (files of the others are in {predict.out})")
    folders = ", ".join(str(predict.out / kind) for kind in predict.save)
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
    place = distributed.world()
    if place.size > 1:  # torchrun shares the list out
        broken = work(0, place, path, dataset, root, predict)
        if broken:  # the other processes have theirs to do
            print(f"test.py: left out: {'; '.join(broken)}", file=sys.stderr)
        return
    device = choose_device(predict.device)
    every = device.type == "cuda" and predict.device in ("auto", "cuda")
    count = predict.processes or (torch.cuda.device_count() if every else 1)
    if count == 1:
        broken = work(0, place, path, dataset, root, predict)
    else:
        open_stage(path, dataset, root, predict)  # refuse here, not in every process
        place = World(0, count, 0, count)
        broken = torch.multiprocessing.Manager().list()
        arguments = (broken, place, path, dataset, root, predict)
        try:
            torch.multiprocessing.spawn(spawned, arguments, nprocs=count)
        except torch.multiprocessing.ProcessExitedException:
            sys.exit(1)  # the process has said why
    tell(predict, list(broken))


if __name__ == "__main__":
    with entry("test.py"):
        tyro.cli(main, config=(tyro.conf.FlagCreatePairsOff,), prog="test.py")
