"""Predict with a checkpoint: python test.py CHECKPOINT --out DIR [flags]."""

import sys
from dataclasses import replace
from glob import glob
from pathlib import Path

import torch
import tyro

from datalist import DataError
from method.restore import restore
from utils import checkpoint, distributed
from utils.distributed import World, choose_device
from utils.infer import Predict, cores, predict_split


def work(rank: int, place: World, path: Path, dataset: str, root: str, predict: Predict) -> None:
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
    stage = restore(path, checkpoint.load(path), dataset, root, bool(predict.image))
    predict_split(stage, predict, device, threads, (place.rank, place.size))


def expand(path: Path) -> list[str]:
    """Files that a path with wildcards names; another path as it is."""
    return [str(path)] if path.exists() else sorted(glob(str(path))) or [str(path)]


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
    if predict.image:
        # A glob that the shell left alone (in quotes, or on Windows); people want to look.
        found = [Path(name) for path in predict.image for name in expand(path)]
        save = predict.save if predict.save != ("label",) else ("label", "overlay")
        predict = replace(predict, image=tuple(found), save=save)
    place = distributed.world()
    if place.size > 1:  # torchrun shares the list out
        work(0, place, path, dataset, root, predict)
        return
    device = choose_device(predict.device)
    every = device.type == "cuda" and predict.device in ("auto", "cuda")
    count = predict.processes or (torch.cuda.device_count() if every else 1)
    if count == 1:
        work(0, place, path, dataset, root, predict)
    else:
        # Refuse here, in one sentence, not in every process.
        restore(path, checkpoint.load(path), dataset, root, bool(predict.image))
        place = World(0, count, 0, count)
        torch.multiprocessing.spawn(work, (place, path, dataset, root, predict), nprocs=count)


if __name__ == "__main__":
    try:
        tyro.cli(main, config=(tyro.conf.FlagCreatePairsOff,), prog="test.py")
    except (DataError, OSError, ValueError) as error:
        sys.exit(f"test.py: {error}")
    except KeyboardInterrupt:
        sys.exit("test.py: stopped; the same command goes on with the images that are left")
