#!/usr/bin/env python
"""Predict with a checkpoint: python test.py CHECKPOINT --out DIR [flags]."""

import os
import sys
from dataclasses import replace
from glob import escape, glob
from pathlib import Path
from typing import Any

from base import UserError, entry


def open_stage(flags: Any) -> Any:
    """Load a stage, refuse what it cannot do, and note how the folder's files are made."""
    from datalist.tag import read_tags
    from method.restore import restore
    from utils import checkpoint
    from utils.infer import check, needs_tags
    from utils.record import keep_settings

    path, predict = flags.checkpoint, flags.predict
    stage = restore(path, checkpoint.load(path), flags.dataset, flags.root, bool(predict.image))
    check(stage, predict)
    if predict.presence is not None:
        if stage.presence is None:
            raise UserError(
                f"{path}: this stage does not find classes itself: leave --presence out"
            )
        stage.presence = predict.presence
    if not predict.image:
        ids = stage.spec.ids(predict.split) if needs_tags(predict) else []
        keep_settings(predict, path, stage, read_tags(stage.spec, ids) if ids else {})
    return stage


def work(rank: int, world: Any, flags: Any) -> list[str]:
    """One process's share of the images, on its own device or threads.

    `rank` is the number of a process that this program started; torchrun's have theirs in `world`,
    a `utils.distributed.World`. Returns a sentence for each picture that could not be read.
    """
    import torch

    from utils.distributed import choose_device, main_first
    from utils.infer import predict_split
    from utils.machine import cores, keep_freed_memory

    keep_freed_memory()
    if rank:
        world = replace(world, rank=rank, local_rank=rank)
    device = choose_device(flags.predict.device, world)
    threads = max(1, (flags.predict.threads or cores()) // world.local_size)
    if device.type == "cpu":
        torch.set_num_threads(max(1, cores() // world.local_size))
    with main_first(world):  # it moves files of other settings away
        stage = open_stage(flags)
    return predict_split(stage, flags.predict, device, threads, (world.rank, world.size))


def spawned(rank: int, errors: list[str], *arguments: Any) -> None:
    """`work` in a process of its own: its result goes to `errors`, an error ends in a sentence."""
    with entry():
        errors.extend(work(rank, *arguments))


def expand(path: Path) -> list[str]:
    """Files that a path with wildcards names; another path as it is.

    The shell leaves a pattern alone in quotes, on Windows, and where it finds nothing.
    """
    if path.exists() or not set("*?[") & set(str(path)):
        return [str(path)]
    # Folders that are there have no wildcards, even where their names hold brackets.
    folder = next(parent for parent in path.parents if parent.exists())
    pattern = Path(escape(str(folder))) / path.relative_to(folder)
    matches = sorted(glob(str(pattern), recursive=True))
    if not matches:
        raise UserError(f"no file matches --image {path}")
    return matches


def prepare(flags: Any) -> Any:
    """Fill in what pictures of people want, and where the files go."""
    predict, beside = flags.predict, flags.checkpoint.parent
    if not predict.image:
        return replace(flags, predict=replace(predict, out=predict.out or beside / predict.split))
    images = tuple(Path(name) for image in predict.image for name in expand(image))
    looked_at = ("label", "overlay", "cover")
    save = predict.save if predict.save != ("label",) else looked_at
    out = predict.out or Path("out/photo")
    return replace(flags, predict=replace(predict, out=out, image=images, save=save))


def write_cover(predict: Any) -> None:
    """The table of all pictures in the folder; a run that was stopped writes it in the end."""
    from utils.cover import write_table

    if "cover" in predict.save and (path := write_table(predict.out)):
        print(f"cover of each class: {path}")


def tell(predict: Any, errors: list[str]) -> None:
    """Say where the files are, and which pictures have none."""
    from utils.output import output_path

    if errors:
        reasons = "; ".join(reason.rstrip(".") for reason in errors)
        raise UserError(f"left out: {reasons} (files of the others are in {predict.out})")
    folders = ", ".join(str(predict.out / name) for name in predict.save)
    if len(predict.image) == 1 and predict.image[0].is_file() and "overlay" in predict.save:
        print(f"look at {output_path(predict.out, 'overlay', predict.image[0].stem)}")
    else:
        print(f"files in {folders}")


def predict_all(flags: Any) -> None:
    """Predict in this process, in several, or as one of torchrun's."""
    # Before torch: the threads of a network would spin between layers, and take the processors
    # from those that decode and write. With a small network that is most of the time. NumPy's
    # would do so too, where windows are blended.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import torch

    from utils.distributed import World, barrier, choose_device, read_world, sharing

    flags = prepare(flags)
    predict, world = flags.predict, read_world()
    with sharing(world, None if predict.image else predict.out):
        if world.size > 1:  # torchrun shares the list out
            if errors := work(0, world, flags):  # the other processes have theirs to do
                print(f"left out: {'; '.join(errors)}", file=sys.stderr)
            barrier()
            if world.main:
                write_cover(predict)
            return
        device = choose_device(predict.device)
        every = device.type == "cuda" and predict.device in ("auto", "cuda")
        count = predict.processes or (torch.cuda.device_count() if every else 1)
        if count == 1:
            errors = work(0, world, flags)
        else:
            open_stage(flags)  # refuse here, not in every process
            errors = torch.multiprocessing.Manager().list()
            arguments = (errors, World(0, count, 0, count), flags)
            try:
                torch.multiprocessing.spawn(spawned, arguments, nprocs=count)
            except torch.multiprocessing.ProcessExitedException:
                sys.exit(1)  # the process has said why
        write_cover(predict)
        tell(predict, list(errors))


def main() -> None:
    """Read the flags and predict."""
    import tyro

    from utils.flags import PredictFlags

    predict_all(tyro.cli(PredictFlags, config=(tyro.conf.FlagCreatePairsOff,)))


if __name__ == "__main__":
    with entry():
        main()
