"""Time evaluation: 1449 pairs of VOC's size, and counting against a Python loop per pixel.

    python -m benchmark.evaluation [--json FILE]

The pairs are drawn: a few round objects on background, edges ignored, predictions shifted. Both
ways of counting see the same files in the same run and must agree on every pixel.
"""

import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro

from benchmark.timing import median, report
from datalist.image import read_mask, write_mask
from datalist.spec import VOC, Spec
from utils import measure, metric
from utils.output import output_path


@dataclass(frozen=True)
class Flags:
    images: int = 1449
    """Pairs to evaluate; VOC2012 val has 1449."""
    drawn: int = 100
    """Different ones among them; the others are links to these."""
    loops: int = 5
    """Pairs that the Python loop counts."""
    workers: int = 2
    """Threads."""
    json: Path | None = None
    """File for the numbers."""


def draw(seed: int, height: int = 375, width: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """A truth with its ignored rims and a prediction of it, uint8 (height, width)."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(1, 5)):
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        axes = (int(rng.integers(20, 160)), int(rng.integers(20, 160)))
        shape = (centre, axes, float(rng.integers(0, 180)), 0, 360)
        cv2.ellipse(truth, *shape, int(rng.integers(1, len(VOC))), -1)
        cv2.ellipse(truth, *shape, 255, 5)
    moved = np.roll(truth, rng.integers(-15, 15, 2), (0, 1))
    return truth, np.where(moved == 255, 0, moved)


def make(folder: Path, flags: Flags) -> tuple[Spec, list[str]]:
    """Write the pairs as a data set and the output of test.py."""
    ids = [f"{n:06d}" for n in range(flags.images)]
    spec = Spec(name="drawn", root=folder, classes=VOC, lists={})
    for n, name in enumerate(ids):
        paths = (spec.mask_path(name), output_path(folder / "out", "label", name))
        if n < flags.drawn:
            for path, label in zip(paths, draw(n)):
                write_mask(path, label)
        else:
            source = ids[n % flags.drawn]
            paths[0].hardlink_to(spec.mask_path(source))
            paths[1].hardlink_to(output_path(folder / "out", "label", source))
    return spec, ids


def loop(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Count as the released programs do: pixel by pixel, in Python."""
    count = np.zeros((num_classes, num_classes), np.int64)
    for row in range(truth.shape[0]):
        for column in range(truth.shape[1]):
            if truth[row, column] != 255:
                count[truth[row, column], prediction[row, column]] += 1
    return count


def main(flags: Flags) -> None:
    with tempfile.TemporaryDirectory() as name:
        spec, ids = make(Path(name), flags)
        predictions = measure.find(Path(name) / "out")
        start = time.perf_counter()
        measured = measure.measure(spec, ids, predictions, [], flags.workers, quiet=True)
        seconds = time.perf_counter() - start
        ours, theirs = [], []
        for image_id in ids[: flags.loops]:
            pair = (read_mask(spec.mask_path(image_id)), predictions.label(image_id), len(VOC))
            if not (loop(*pair) == metric.confusion(*pair)).all():
                sys.exit(f"The two ways of counting disagree on pair {image_id}.")
            theirs.append(median(lambda pair=pair: loop(*pair), 1))
            ours.append(median(lambda pair=pair: metric.confusion(*pair), 20))
    numbers = {
        "images": flags.images,
        "workers": flags.workers,
        "seconds": round(seconds, 2),
        "images_per_second": round(flags.images / seconds, 1),
        "milliseconds_counting": round(1e3 * statistics.median(ours), 3),
        "milliseconds_loop_per_pixel": round(1e3 * statistics.median(theirs), 1),
        "ratio": round(statistics.median(theirs) / statistics.median(ours), 1),
        "miou": round(100 * measured.scores.miou, 2),
    }
    report(numbers, flags.json)


if __name__ == "__main__":
    main(tyro.cli(Flags, description=__doc__))
