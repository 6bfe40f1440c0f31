"""Predict with a checkpoint: python test.py CHECKPOINT --out DIR [flags]."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
import tyro

from datalist import DataError
from datalist.spec import Spec, resolve
from method import STAGES, stage_class
from utils import checkpoint
from utils.infer import Predict, cores, predict_split
from utils.loop import choose_device


def load_stage(path: Path, dataset: str = "", root: str = ""):
    """Rebuild a trained stage from its checkpoint.

    Args:
        path: checkpoint of train.py.
        dataset, root: data set to predict on; empty: the one it was trained on.

    Errors: DataError for an unusable checkpoint or a data set of other classes.
    """
    content = checkpoint.load(path)
    if content["stage"] not in STAGES:
        raise DataError(f"{path}: stage '{content['stage']}' is not known to this version")
    kind = stage_class(content["stage"])
    recipe = checkpoint.restore_recipe(path, content, type(next(iter(kind.recipes.values()))))
    if dataset:
        recipe = replace(recipe, dataset=dataset, root=root)
    spec: Spec = resolve(recipe.dataset, recipe.root or None)
    if list(spec.classes) != content["classes"]:
        raise DataError(
            f"{path} was trained on the classes {', '.join(content['classes'])}; "
            f"{recipe.dataset} has {', '.join(spec.classes)}"
        )
    stage = kind(recipe, spec)
    stage.network.load_state_dict(content["network"])
    return stage


def work(rank: int, count: int, path: Path, dataset: str, root: str, predict: Predict) -> None:
    """One of `count` processes: its share of the images on its own device or threads."""
    device = choose_device(predict.device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", rank % torch.cuda.device_count())
    threads = max(1, (predict.threads or cores()) // count)
    if device.type == "cpu":
        torch.set_num_threads(max(1, cores() // count))
    predict_split(load_stage(path, dataset, root), predict, device, threads, (rank, count))


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
    device = choose_device(predict.device)
    spawned = device.type == "cuda" and device.index is None
    count = predict.processes or (torch.cuda.device_count() if spawned else 1)
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:  # torchrun shares the list out
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        work(rank, world, path, dataset, root, predict)
        return
    if count == 1:
        work(0, 1, path, dataset, root, predict)
    else:
        load_stage(path, dataset, root)  # refuse here, in one sentence, not in every process
        torch.multiprocessing.spawn(work, (count, path, dataset, root, predict), nprocs=count)


if __name__ == "__main__":
    try:
        tyro.cli(main, config=(tyro.conf.FlagCreatePairsOff,), prog="test.py")
    except (DataError, OSError, ValueError) as error:
        sys.exit(f"test.py: {error}")
    except KeyboardInterrupt:
        sys.exit("test.py: stopped; the same command goes on with the images that are left")
