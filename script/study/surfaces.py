"""Draw surfaces with thin cracks and smooth stains: python -m script.study.surfaces data/surfaces.

A crack is 3 to 6 pixels wide and covers about 3 % of a tile of 160 x 160 pixels; a stain is large,
with soft borders and little contrast. Some tiles have neither. Nothing else says which tile has
what: the light, the grain and pale lines of paint are the same on all.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image

from base import entry
from datalist.folder import new_data_folder
from datalist.image import write_mask
from datalist.scenes import cloud

SIZE = (160, 160)
CLASSES = ("background", "crack", "stain")
SHIFT = 4  # fractional bits of OpenCV's coordinates


@dataclass(frozen=True)
class Flags:
    """Where the folder goes, and how much of it."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder in VOC layout to make."""
    train: int = 300
    """Training tiles."""
    val: int = 100
    """Validation tiles."""
    seed: int = 0
    """The same seed gives the same pixels."""


def polyline(
    rng: np.random.Generator, start: NDArray, heading: float, steps: int, bend: float
) -> NDArray:
    """Points of a path whose direction changes at random, (steps, 2) as x, y."""
    headings = heading + np.cumsum(rng.normal(0, bend, steps))
    moves = 5 * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    return start + np.cumsum(moves, axis=0)


def stroke(canvas: NDArray[np.uint8], points: NDArray, widths: NDArray) -> None:
    """Draw a path on an image (H, W), each segment as wide as `widths` says."""
    fixed = np.round(points * 2**SHIFT).astype(np.int32)
    for first, second, width in zip(fixed[:-1], fixed[1:], widths):
        cv2.line(canvas, first.tolist(), second.tolist(), 255, int(width), cv2.LINE_AA, SHIFT)


def draw_crack(rng: np.random.Generator) -> NDArray[np.float32]:
    """Cover of a crack with a branch or none, in [0, 1], (H, W)."""
    canvas = np.zeros(SIZE, np.uint8)
    heading = rng.uniform(0, 2 * np.pi)
    centre = np.array(SIZE[::-1]) * rng.uniform(0.3, 0.7, 2)
    steps = int(rng.integers(18, 32))
    start = centre - 2.5 * steps * np.array([np.cos(heading), np.sin(heading)])
    points = polyline(rng, start, heading, steps, 0.25)
    widths = rng.integers(3, 7) + rng.integers(-1, 2, steps)
    stroke(canvas, points, widths.clip(3, 6))
    if rng.random() < 0.4:
        branch = polyline(rng, points[steps // 2], heading + rng.choice([-1, 1]), 10, 0.25)
        stroke(canvas, branch, np.full(10, 3))
    return canvas.astype(np.float32) / 255


def draw_stain(rng: np.random.Generator) -> NDArray[np.float32]:
    """Cover of a soft blob, in [0, 1], (H, W)."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    centre, radius = np.array(SIZE) * rng.uniform(0.25, 0.75, 2), rng.uniform(22, 40)
    wave = 1 + 0.25 * cloud(rng, SIZE, (3, 5))
    distance = np.hypot(y - float(centre[0]), (x - float(centre[1])) * float(rng.uniform(0.7, 1.4)))
    outside = ((distance / wave - float(radius)) / 2.5).clip(-50, 50)
    return (1 / (1 + np.exp(outside))).astype(np.float32)


def tile(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[int, ...]]:
    """Image (H, W, 3), mask (H, W) and tags of one tile."""
    shade = rng.uniform(95, 165)
    grain = cv2.GaussianBlur(rng.normal(size=SIZE).astype(np.float32), (0, 0), 0.8)
    image = shade + 22 * grain + 7 * cloud(rng, SIZE, (2, 4)) + 4 * cloud(rng, SIZE, (20, 40))
    if rng.random() < 0.3:  # paint, on tiles of all kinds
        paint = np.zeros(SIZE, np.uint8)
        ends = np.array([rng.uniform(0, 160, 2), rng.uniform(0, 160, 2)])
        stroke(paint, ends, [rng.integers(8, 20)])
        image += paint.astype(np.float32) / 255 * float(rng.uniform(20, 50))
    mask = np.zeros(SIZE, np.uint8)
    choice = rng.choice(4, p=(0.4, 0.25, 0.1, 0.25))
    if choice in (1, 2):
        cover = draw_stain(rng)
        image += cover * float(rng.choice([-1, 1]) * rng.uniform(14, 26))
        mask[cover > 0.5] = CLASSES.index("stain")
    if choice in (0, 2):
        cover = draw_crack(rng)
        image -= cv2.GaussianBlur(cover, (0, 0), 0.6) * float(rng.uniform(30, 60))
        mask[cover > 0.5] = CLASSES.index("crack")
    tint = np.array([1.0, 0.99, 0.96], np.float32)
    tags = tuple(int(index) for index in np.unique(mask) if index)
    return (image[..., None] * tint).clip(0, 255).round().astype(np.uint8), mask, tags


def draw(out: Path, counts: dict[str, int], seed: int) -> None:
    """Write a folder of tiles in VOC layout; it appears when all of it is written."""
    with new_data_folder(out, CLASSES) as data:
        for number, (split, count) in enumerate(counts.items()):
            data.lists[split] = [f"{split}_{index:04d}" for index in range(count)]
            for index, image_id in enumerate(data.lists[split]):
                rng = np.random.default_rng([seed, number, index])
                image, mask, data.tags[image_id] = tile(rng)
                Image.fromarray(image).save(data.image(image_id), quality=92)
                write_mask(data.mask(image_id), mask)


if __name__ == "__main__":
    with entry():
        flags = tyro.cli(Flags, description=__doc__)
        draw(flags.out, {"train": flags.train, "val": flags.val}, flags.seed)
