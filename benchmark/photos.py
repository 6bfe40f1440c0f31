"""Time script/photos.sh of two trees on the same class folders; benchmark/photos.sh starts it.

Processor seconds and memory are those of all processes of a chain, read from /proc, as the forks of
script/warm.py are nobody's children. Linux alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from statistics import median
from time import monotonic

from datalist.spec import resolve
from datalist.tag import read_tags

MARK = "PHOTOS_BENCHMARK"
"""Variable in the environment of the processes of a run."""
EVERY = 0.25
"""Seconds between two looks at the processes."""
MEMORY_EVERY = 8
"""Looks between two at their memory, which takes the processor much longer than their time."""


class Watch(threading.Thread):
    """Adds up processor seconds and memory of all processes that have MARK=NAME.

    What a process uses in its last quarter of a second is not seen.

    Args:
        name: of this run.

    Attributes:
        seconds: user and system time so far.
        peak: largest memory of all processes together, bytes; shared pages count once.
    """

    def __init__(self, name: str):
        super().__init__(daemon=True)
        self.word = f"{MARK}={name}".encode()
        self.used: dict[tuple[str, str], float] = {}
        self.peak, self.ended = 0, threading.Event()

    @property
    def seconds(self) -> float:
        return sum(list(self.used.values()))

    def run(self) -> None:
        for number in itertools.count():
            if self.ended.wait(EVERY):
                return
            memory = number % MEMORY_EVERY == 0
            processes = Path("/proc").glob("[0-9]*")
            self.peak = max(self.peak, sum(self.look(process, memory) for process in processes))

    def look(self, process: Path, memory: bool) -> int:
        """Note a process's time; returns its memory in bytes, 0 unless asked and of this run."""
        try:
            if self.word not in (process / "environ").read_bytes().split(b"\0"):
                return 0
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            self.used[process.name, fields[19]] = seconds
            if not memory:
                return 0
            lines = (process / "smaps_rollup").read_text().splitlines()
            return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except (OSError, StopIteration, IndexError):  # it has ended
            return 0


def class_folders(dataset: str, folder: Path, count: int) -> None:
    """Copy training images to FOLDER/CLASS, `background` where they show none.

    With a count, about so many images; every class keeps one. 0: all images.
    """
    spec = resolve(dataset)
    ids = spec.ids("train")
    tags_of = read_tags(spec, ids)
    first: dict[int, str] = {}
    for name in reversed(ids):
        first |= dict.fromkeys(tags_of[name], name)
    chosen = {*ids[:: max(1, len(ids) // count)], *first.values()} if count else ids
    for name in sorted(chosen):
        tags = tags_of[name]
        for index in tags or (0,):
            target = folder / spec.classes[index]
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(spec.image_path(name), target)


def run_chain(tree: Path, photos: Path, out: Path) -> dict[str, float]:
    """Run a tree's photos.sh, its output in OUT.log; returns what it took, and prints its steps."""
    shutil.rmtree(out, ignore_errors=True)
    watch, began = Watch(out.name), monotonic()
    environment = os.environ | {MARK: out.name, "OUT": str(out), "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"ARRANGE": "--untagged background"}
    watch.start()
    steps: dict[str, float] = {}
    step, before = "arrange", 0.0
    with (
        open(f"{out}.log", "w") as log,
        subprocess.Popen(
            ["bash", "script/photos.sh", str(photos)], cwd=tree, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as chain,
    ):  # fmt: skip
        for line in chain.stdout or ():
            log.write(line)
            if line.startswith("== "):
                now = watch.seconds
                steps[step] = steps.get(step, 0) + now - before
                step, before = line[3:].strip().replace(f"{out}/", ""), now
    wall = monotonic() - began
    watch.ended.set()
    watch.join()
    if chain.returncode:
        raise SystemExit(f"{tree}: photos.sh ended with {chain.returncode}, see {out}.log")
    steps[step] = steps.get(step, 0) + watch.seconds - before
    print(f"{out.name}: {wall:.0f} s, {watch.seconds:.0f} processor s, of these:")
    print("".join(f"    {seconds:6.1f}  {name}\n" for name, seconds in steps.items()), flush=True)
    return {"wall": wall, "processor": watch.seconds, "gigabytes": watch.peak / 2**30}


def score(dataset: str, out: Path) -> float:
    """mIoU of the masks of the images, by this tree."""
    folder = next(f for f in (out / "train-images", out / "val") if (f / "label").is_dir())
    target = out / "benchmark"
    subprocess.run(
        ["python", "evaluate.py", folder, "--dataset", dataset, "--split", "train", "--partial",
         "--quiet", "--out", target],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return json.loads((target / "score.json").read_text())["miou"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", help="folder in VOC layout; its training images are used")
    parser.add_argument("trees", nargs="+", type=Path, metavar="NAME=TREE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--count", type=int, default=0, help="about so many images; 0: all")
    flags = parser.parse_args()
    trees = dict(str(tree).split("=", 1) for tree in flags.trees)
    photos = flags.out.resolve() / "photos"
    shutil.rmtree(photos, ignore_errors=True)
    class_folders(flags.dataset, photos, flags.count)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
    for number in range(flags.runs):
        for name, tree in trees.items():
            out = flags.out.resolve() / f"{name}-{number}"
            row = run_chain(Path(tree), photos, out)
            rows[name].append(row | {"miou": score(flags.dataset, out)})
    middle = {
        name: {key: median(row[key] for row in own) for key in own[0]} for name, own in rows.items()
    }
    print(f"medians of {flags.runs}    wall s  processor s  GB at most  mIoU of masks (train)")
    for name, own in middle.items():
        print(
            "{:<14}{wall:10.0f}{processor:13.0f}{gigabytes:12.2f}{miou:23.2f}".format(name, **own)
        )
    if len(middle) == 2:
        first, last = middle.values()
        ratios = (first[key] / last[key] for key in ("wall", "processor"))
        print("ratio         {:10.2f}{:13.2f}".format(*ratios))


if __name__ == "__main__":
    main()
