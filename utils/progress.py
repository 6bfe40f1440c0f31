"""Progress of long work: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys

from tqdm import tqdm

LINE = "{desc}: {n_fmt} of {total_fmt}{unit} [{elapsed} < {remaining}{postfix}]\n"


def progress(total: int, desc: str, unit: str, quiet: bool = False, initial: int = 0) -> tqdm:
    """A tqdm bar; where standard error is no terminal, it prints a line every 30 seconds.

    Args:
        total: units of work in all.
        desc: what the work is.
        unit: name of one unit.
        quiet: show nothing.
        initial: units done before.
    """
    options = {"dynamic_ncols": True}
    if not sys.stderr.isatty():
        options = {"mininterval": 30, "maxinterval": 30, "bar_format": LINE}
    return tqdm(total=total, initial=initial, desc=desc, unit=unit, disable=quiet, **options)
