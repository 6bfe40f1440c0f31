"""Progress of long work: a bar on a terminal, a line now and then in a log."""

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tqdm import tqdm

LINE = "{desc}: {n_fmt} of {total_fmt}{unit} [{elapsed} < {remaining}{postfix}]\n"


def progress(total: int, desc: str, unit: str, quiet: bool = False, initial: int = 0) -> tqdm:
    """A tqdm bar; where standard error is not a terminal, it prints a line every 30 seconds.

    `initial` units of the total were done before.
    """
    options: dict[str, Any] = {"dynamic_ncols": True}
    if not sys.stderr.isatty():
        options = {"mininterval": 30, "maxinterval": 30, "bar_format": LINE}
    return tqdm(total=total, initial=initial, desc=desc, unit=unit, disable=quiet, **options)


def in_threads(
    function: Callable[[Any], Any], items: Sequence, threads: int, desc: str, quiet: bool = False
) -> Iterator[Any]:
    """Results of a function of each image, in order; after an error nothing further is begun."""
    waiting: deque[Future] = deque()
    pool = ThreadPoolExecutor(max(1, threads))
    try:
        with progress(len(items), desc, " images", quiet) as bar:
            for item in items:
                # Only a few at a time: Ctrl-C waits for those that were handed over.
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * max(1, threads):
                    yield waiting.popleft().result()
                    bar.update()
            while waiting:
                yield waiting.popleft().result()
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)
