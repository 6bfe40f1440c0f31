"""Reading .mat files in a process of its own: on damaged ones scipy's compiled code can crash."""

import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from base import UserError

SECONDS = 5
"""Seconds after which a .mat file counts as damaged; a whole one takes a millisecond."""


def apart() -> ProcessPoolExecutor:
    """A process to read .mat files in."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def read_apart(
    path: Path, load: Callable[[dict], tuple[np.ndarray, ...]], what: str, pool: ProcessPoolExecutor
) -> tuple[np.ndarray, ...]:
    """Read integer arrays of a .mat file in the process of `apart`.

    Args:
        path: the file; `what` it should be, for the error.
        load: function of a module that takes the arrays from scipy's dictionary.

    Raises:
        UserError: another file; where it crashed the process, the pool is of no more use.
    """
    try:
        pool.submit(_start).result()  # on a busy machine its first imports take longer than a file
        return pool.submit(_load, path, load).result(2 * SECONDS)
    except Exception as error:
        # scipy raises whatever the damage leads to, from zlib.error to TypeError.
        reason = " ".join(str(error).split())[:80]
        raise UserError(f"{path} is not {what} ({reason})") from None


def _start() -> None:
    import scipy.io  # noqa: F401


def _load(path: Path, load: Callable[[dict], tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    from scipy.io import loadmat

    alarm = getattr(signal, "alarm", lambda seconds: None)  # Windows has none
    alarm(SECONDS)  # ends the process; scipy's compiled code cannot be interrupted otherwise
    try:
        arrays = tuple(np.asarray(array) for array in load(loadmat(path)))
    finally:
        alarm(0)
    if any(array.ndim != 2 or array.dtype.kind not in "iu" for array in arrays):
        raise ValueError("no class indices")
    return arrays
