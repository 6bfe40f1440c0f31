"""Time the prediction of a large picture in windows, and measure its memory, on a CPU.

    python -m benchmark.tile [--json FILE]

Beside it, the picture is cut into pictures of the usual size, which are predicted one after another
with the same network, CRF and files. The windows are predicted as pictures, too: where only one of
them lies, both must give the same labels. Memory is the peak of a process that predicts one TIFF,
for pictures of several sizes.
"""

import itertools
import math
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
import tyro

from base.recipe import change
from base.tile import Tiling, choose_window
from benchmark.drawn import draw_photographs
from benchmark.timing import report
from datalist.image import read_image, read_mask
from datalist.spec import Spec
from method import stage_class
from utils.flags import Predict
from utils.infer import predict_split
from utils.machine import keep_freed_memory


@dataclass(frozen=True)
class Flags:
    size: tuple[int, int] = (2400, 3200)
    """Height and width of the picture that is timed."""
    window: tuple[int, int] = (240, 320)
    """Height and width of the usual pictures, of which windows have the size."""
    classes: int = 15
    """Classes with background."""
    threads: int = 2
    """Threads of the network, and as many after it."""
    times: int = 3
    """Predictions to take the median of."""
    sides: tuple[int, ...] = (3000, 6000, 10000)
    """Sides of the square pictures whose memory is measured."""
    json: Path | None = None
    """File for the numbers."""


def make_stage(flags: Flags) -> Any:
    """SEC's recipe for photographs, with a random head."""
    torch.manual_seed(0)
    kind = stage_class("supervised")
    classes = ("background", *(f"class{k}" for k in range(1, flags.classes)))
    spec = Spec(name="x", root=Path(), classes=classes, lists={}, usual_size=flags.window)
    stage = kind(change(kind.recipes["photo"], size=(160, 240)), spec)
    stage.load()
    return stage


def predict(stage: Any, flags: Flags, images: tuple[Path, ...], out: Path, **more: Any) -> None:
    """Write the labels of pictures."""
    settings = Predict(out, image=images, longest=0, quiet=True, **more)
    if errors := predict_split(stage, settings, torch.device("cpu"), flags.threads):
        sys.exit(errors[0])


def write_tiff(path: Path, photograph: np.ndarray, size: tuple[int, int]) -> None:
    """A photograph side by side with itself, as a tiled TIFF."""
    times = [-(-side // own) for side, own in zip(size, photograph.shape)]
    picture = np.tile(photograph, (*times, 1))[: size[0], : size[1]]
    tifffile.imwrite(
        path, picture, photometric="rgb", tile=(256, 256), compression="zlib",
        compressionargs={"level": 1},
    )  # fmt: skip


def single(tiling: Tiling) -> np.ndarray:
    """Pixels on which one window lies, bool (H, W)."""
    count = [
        sum(np.bincount(np.arange(s, s + axis.window), minlength=axis.length) for s in axis.starts)
        for axis in (tiling.rows, tiling.columns)
    ]
    return np.outer(*count) == 1


def time_calls(calls: Sequence[Callable], times: int) -> list[list[float]]:
    """Median elapsed seconds of calls that take turns, after one to warm up, and of processors."""
    taken = np.zeros((2, len(calls), times + 1))
    for turn in range(times + 1):
        for number, call in enumerate(calls):
            start = time.perf_counter(), time.process_time()
            call()
            taken[:, number, turn] = np.subtract((time.perf_counter(), time.process_time()), start)
    return np.median(taken[..., 1:], axis=-1).tolist()


def cut(picture: np.ndarray, size: tuple[int, int], starts: Sequence, folder: Path) -> dict:
    """Write parts of a picture as TIFFs; gives rows and columns of each by name."""
    folder.mkdir()
    cuts = {}
    for top, left in itertools.product(*starts):
        cuts[f"{top}-{left}"] = slice(top, top + size[0]), slice(left, left + size[1])
    for name, part in cuts.items():
        tifffile.imwrite(folder / f"{name}.tif", picture[part], photometric="rgb")
    return cuts


def time_both(flags: Flags, folder: Path) -> dict[str, float]:
    """Megapixels a second in windows and of single pictures, with and without CRF.

    Those of processor time, unlike the elapsed ones, are the same on a busy machine.
    """
    keep_freed_memory()
    torch.set_num_threads(flags.threads)
    stage, large = make_stage(flags), folder / "large.tif"
    picture = read_image(large)
    sides = [range(0, n - m + 1, m) for n, m in zip(flags.size, flags.window)]
    pixels = len(cut(picture, flags.window, sides, folder / "cut")) * math.prod(flags.window)
    window = choose_window("auto", flags.window, flags.size)
    assert window, "the picture is more than twice as large as a window"
    tiling = Tiling(flags.size, window)
    windows = cut(picture, window, (tiling.rows.starts, tiling.columns.starts), folder / "windows")
    numbers: dict[str, float] = {}
    for name, crf in (("", False), ("_with_crf", True)):
        calls = (
            partial(predict, stage, flags, (large,), folder / "one", crf=crf),
            partial(predict, stage, flags, (folder / "cut",), folder / "many", crf=crf),
        )
        for clock, taken in zip(("elapsed", "processor"), time_calls(calls, flags.times)):
            rates = [n / seconds / 1e6 for n, seconds in zip((picture[..., 0].size, pixels), taken)]
            numbers[f"{clock}_megapixels_a_second_in_windows{name}"] = rates[0]
            numbers[f"{clock}_megapixels_a_second_of_single_pictures{name}"] = rates[1]
            numbers[f"{clock}_ratio{name}"] = rates[0] / rates[1]
        predict(stage, flags, (folder / "windows",), folder / "check", crf=crf)
        label, one = read_mask(folder / "one/label/large.png"), single(tiling)
        same = [
            (label[part] == read_mask(folder / f"check/label/{key}.png"))[one[part]].mean()
            for key, part in windows.items()
        ]
        numbers[f"same_labels_where_one_window_lies{name}"] = float(np.mean(same))
    return numbers


def peak(flags: Flags, path: Path) -> float:
    """MiB that a process takes at most to predict one picture, beside those it starts with."""
    keep_freed_memory()
    torch.set_num_threads(flags.threads)
    stage = make_stage(flags)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    predict(stage, flags, (path,), path.parent / "out", crf=True)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024


def alone(function: Callable, *arguments: Any) -> Any:
    """What a function gives in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main(flags: Flags) -> None:
    os.environ |= {"OMP_WAIT_POLICY": "passive", "OPENBLAS_NUM_THREADS": "1"}  # as test.py
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        [drawn] = draw_photographs(folder / "drawn", 1, (600, 800), ("x",), noise=8)
        photograph = read_image(folder / f"drawn/JPEGImages/{drawn}.jpg")
        write_tiff(folder / "large.tif", photograph, flags.size)
        numbers = alone(time_both, flags, folder)
        if numbers["same_labels_where_one_window_lies"] < 0.999:
            sys.exit(f"The labels differ: {numbers}")
        for side in flags.sides:
            write_tiff(folder / "square.tif", photograph, (side, side))
            key = f"peak_MiB_of_{side * side / 1e6:.0f}_megapixels"
            numbers[key] = alone(peak, flags, folder / "square.tif")
    report(numbers, flags.json)


if __name__ == "__main__":
    main(tyro.cli(Flags, description=__doc__))
