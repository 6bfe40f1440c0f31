"""Medians, ratios and their table, for the programs in this folder."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch


def median(call: Callable[[], object], times: int, device: str = "cpu") -> float:
    """Median seconds of a call after one to warm up, with the device's queue emptied."""
    return medians((call,), times, device)[0]


def medians(calls: Sequence[Callable], times: int, device: str = "cpu") -> list[float]:
    """The same of several calls that take turns, so that a busy moment falls on all of them."""
    taken: list[list[float]] = [[] for _ in calls]
    for turn in range(times + 1):
        for call, seconds in zip(calls, taken):
            wait(device)
            start = time.perf_counter()
            call()
            wait(device)
            if turn:
                seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in taken]


def wait(device: str) -> None:
    """Let a CUDA device finish what is queued."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def report(numbers: dict[str, float | int | str], path: Path | None) -> None:
    """Print numbers by name and write them as JSON where a file is named."""
    for key, value in numbers.items():
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        print(f"{key.replace('_', ' '):44}{shown:>24}")
    if path:
        path.write_text(json.dumps(numbers, indent=1) + "\n")
