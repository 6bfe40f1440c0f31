"""Time seeded region growing against loops over pixels in Python.

    python -m benchmark.grow [--json FILE]

Both see the same drawn batches in the same run and must agree on every seed. The loops do what
the released layer does: one of them chooses each pixel's class, and for every class a two-pass
labelling finds the components; they are given the same thresholds and start from the same seeds.
"""

import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import tyro

from benchmark.timing import median, report
from refine.grow import grow_seeds


@dataclass(frozen=True)
class Flags:
    batch: int = 20
    """Images a call (the released solver's batch)."""
    classes: int = 21
    """Classes, background counted."""
    side: int = 41
    """Height and width of the grid."""
    loops: int = 5
    """Images that the Python loops grow."""
    repeats: int = 30
    """Calls to take the median of."""
    threads: int = 1
    """Threads of torch and OpenCV; the loops have one."""
    json: Path | None = None
    """File for the numbers."""


def draw(flags: Flags) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores, seeds and tags: some blobs on background, sure in the middle, seeds in some cells."""
    rng = np.random.default_rng(0)
    score = np.full((flags.batch, flags.classes, flags.side, flags.side), 1e-3, np.float32)
    tag = np.zeros((flags.batch, flags.classes - 1), np.float32)
    for image in range(flags.batch):
        score[image, 0] = 1
        for label in rng.choice(np.arange(1, flags.classes), 2, replace=False):
            tag[image, label - 1] = 1
            blob = np.zeros((flags.side, flags.side), np.float32)
            for _ in range(3):
                centre = tuple(int(v) for v in rng.integers(0, flags.side, 2))
                cv2.circle(blob, centre, int(rng.integers(2, 2 + flags.side // 4)), 1, -1)
            score[image, label] += 30 * cv2.GaussianBlur(blob, (7, 7), 0)
    score /= score.sum(axis=1, keepdims=True)
    sure = score.max(axis=1, keepdims=True) == score
    seed = sure & (rng.random((flags.batch, 1, flags.side, flags.side)) < 0.15)
    return tuple(map(torch.from_numpy, (score, seed, tag)))


def loop(score: np.ndarray, seed: np.ndarray, tag: np.ndarray) -> np.ndarray:
    """Grow one image, (C, H, W), pixel by pixel."""
    classes, height, width = score.shape
    present = [0, *(np.flatnonzero(tag) + 1)]
    region = np.full((height, width), -1)
    for label in range(classes):
        region[seed[label]] = label
    for y in range(height):
        for x in range(width):
            best = max(present, key=lambda label: score[label, y, x])
            if score[best, y, x] > (0.99 if best == 0 else 0.85):
                region[y, x] = best
    grown = seed.copy()
    for label in present:
        part = components(region == label)
        kept = set()
        for y in range(height):
            for x in range(width):
                if part[y, x] and seed[label, y, x]:
                    kept.add(part[y, x])
        for y in range(height):
            for x in range(width):
                if part[y, x] in kept and np.sum(seed[:, y, x]) != 1:
                    grown[label, y, x] = True
    return grown


def components(mask: np.ndarray) -> np.ndarray:
    """Number the 8-connected components from 1, two passes and a table of equal numbers."""
    height, width = mask.shape
    part = np.zeros((height, width), int)
    parent = [0]

    def root(number: int) -> int:
        while parent[number] != number:
            number = parent[number]
        return number

    for y in range(height):
        for x in range(width):
            if not mask[y, x]:
                continue
            near = [
                root(part[y + dy, x + dx])
                for dy, dx in ((-1, -1), (-1, 0), (-1, 1), (0, -1))
                if y + dy >= 0 and 0 <= x + dx < width and part[y + dy, x + dx]
            ]
            if not near:
                parent.append(len(parent))
            part[y, x] = min(near, default=len(parent) - 1)
            for number in near:
                parent[number] = part[y, x]
    for y in range(height):
        for x in range(width):
            part[y, x] = root(part[y, x])
    return part


def main(flags: Flags) -> None:
    torch.set_num_threads(flags.threads)
    cv2.setNumThreads(flags.threads)
    given = draw(flags)
    arrays = [part.numpy() for part in given]
    grown = grow_seeds(*given)
    theirs = []
    for image in range(min(flags.loops, flags.batch)):
        sample = [part[image] for part in arrays]
        if not (loop(*sample) == grown[image].numpy()).all():
            sys.exit(f"The two ways of growing disagree on image {image}.")
        theirs.append(1e3 * median(lambda sample=sample: loop(*sample), 1))
    ours = 1e3 * median(lambda: grow_seeds(*given), flags.repeats) / flags.batch
    numbers = {
        "batch": flags.batch,
        "classes": flags.classes,
        "side": flags.side,
        "threads": flags.threads,
        "seeds_percent": round(100 * given[1].any(1).float().mean().item(), 1),
        "grown_percent": round(100 * grown.any(1).float().mean().item(), 1),
        "milliseconds_an_image": round(ours, 3),
        "milliseconds_an_image_loop": round(statistics.median(theirs), 1),
        "ratio": round(statistics.median(theirs) / ours, 1),
    }
    if torch.cuda.is_available():
        moved = [part.cuda() for part in given]
        if not grow_seeds(*moved).cpu().equal(grown):
            sys.exit("CPU and CUDA grow different seeds.")

        seconds = median(lambda: grow_seeds(*moved), flags.repeats, "cuda")
        numbers["milliseconds_an_image_cuda"] = round(1e3 * seconds / flags.batch, 3)
    report(numbers, flags.json)


if __name__ == "__main__":
    main(tyro.cli(Flags, description=__doc__))
