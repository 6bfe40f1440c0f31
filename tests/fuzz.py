"""Feed every reader of files with hostile ones: python tests/fuzz.py --cases 10000.

A reader may refuse a file in one sentence that names it, or read it. Anything else is a finding:
another error, a crash, more than ten seconds, more than a gigabyte, a file written or an id that
leaves its folder. A finding's file is kept, and told by seed, reader and number it can be made
again: python tests/fuzz.py --reader tags.xml --first 123 --cases 1.
"""

import argparse
import multiprocessing
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from readers import READERS, end_processes

from base import UserError

SECONDS = 10
BYTES = 1 << 30


def one(name: str, seed: int, number: int, folder: Path) -> str | None:
    """Run one case in an empty folder; what is wrong, or None."""
    reader = READERS[name]
    box = folder / "box"
    box.mkdir(exist_ok=True)
    path = box / name
    path.write_bytes(reader.make(random.Random(f"{seed} {name} {number}")))
    start = time.monotonic()
    try:
        reader.read(path)
    except UserError as error:
        if "\n" in str(error).strip() or len(str(error)) > 1000:
            return f"says more than one sentence: {str(error)[:200]!r}"
    except BaseException:
        return traceback.format_exc()
    if time.monotonic() - start > SECONDS:
        return f"took {time.monotonic() - start:.0f} seconds"
    left = sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
    return None if left == ["box", f"box/{name}"] else f"left {left}"


def work(name: str, seed: int, first: int, last: int, folder: Path, state) -> None:
    """All cases of a reader in a process of its own; `state` holds the case and the findings."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    one(name, seed, 0, folder)  # what is imported late is no growth
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(first, last):
        state[0] = number
        found = one(name, seed, number, folder)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        if not found and grown > BYTES:
            found = f"took {grown >> 20} MiB"
            before += grown >> 10
        state[2] = max(state[2], grown >> 20)
        if found:
            state[1] += 1
            keep = Path(tempfile.gettempdir()) / f"fuzz-{seed}-{number}-{name}"
            shutil.copy(folder / "box" / name, keep)
            if state[1] <= 3:
                print(f"{name}, case {number}, kept as {keep}: {found}", flush=True)
        shutil.rmtree(folder / "box", ignore_errors=True)
    end_processes()


def run(name: str, seed: int, first: int, last: int) -> int:
    """Run cases of a reader; the number of findings. A crash or a hang ends them."""
    start = time.monotonic()
    state = multiprocessing.Array("q", [first, 0, 0])  # case, findings, MiB
    with tempfile.TemporaryDirectory() as folder:
        process = multiprocessing.Process(
            target=work, args=(name, seed, first, last, Path(folder), state)
        )
        process.start()
        seen, since = -1, time.monotonic()
        while process.is_alive():
            process.join(1)
            if state[0] != seen:
                seen, since = state[0], time.monotonic()
            elif time.monotonic() - since > 6 * SECONDS:
                process.kill()
        if process.exitcode:
            state[1] += 1
            keep = Path(tempfile.gettempdir()) / f"fuzz-{seed}-{state[0]}-{name}"
            keep.write_bytes(READERS[name].make(random.Random(f"{seed} {name} {state[0]}")))
            print(f"{name}, case {state[0]}, kept as {keep}: ended by {process.exitcode}")
    seconds = time.monotonic() - start
    print(f"{name:18} {state[0] + 1 - first:6} cases, {state[1]} findings, {seconds:4.0f} s, "
          f"{state[2]} MiB at most", flush=True)  # fmt: skip
    return state[1]


def main() -> int:
    """Run cases of some readers; 1 where there was a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="cases of each reader")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", nargs="*", choices=READERS, default=list(READERS))
    flags = parser.parse_args()
    last = flags.first + flags.cases
    return min(1, sum(run(name, flags.seed, flags.first, last) for name in flags.reader))


if __name__ == "__main__":
    sys.exit(main())
