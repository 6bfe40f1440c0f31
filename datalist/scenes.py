"""The embedded data set: a small procedural world, drawn to disk in VOC layout.

A scene has a cluttered textured ground, a few distractors, one to three objects of very different
sizes that may hide each other, uneven light and sensor noise. A class is a pair of a shape and a
texture. Every shape and every texture belongs to two classes, so neither identifies a class alone,
and colours do not either. Each object has a badge, its most discriminative part. A classifier needs
little else, so its activation maps cover too little of large objects and too much of small ones,
as on photographs.

Two worlds are drawn from the same ground and light: `target`, and `external` with other shapes,
other textures and other badges.
"""

import colorsys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import tyro
from numpy import ndarray
from PIL import Image

from base import UserError, entry
from datalist.folder import new_data_folder
from datalist.palette import palette

Field = Callable[[ndarray, ndarray], ndarray]
ROOM = 2  # drawn at twice the size, then averaged down: smooth contours


def _arrow(u: ndarray, v: ndarray) -> ndarray:
    head = np.minimum(0.9 - u - np.abs(v) * 1.1, u + 0.1)
    shaft = np.minimum(0.34 - np.abs(v), np.minimum(u + 0.95, 0.2 - u))
    return np.maximum(head, shaft)


def _cross(u: ndarray, v: ndarray) -> ndarray:
    short, long = np.sort(np.abs([u, v]), axis=0)
    return np.minimum(0.36 - short, 0.95 - long)


SHAPES: dict[str, Field] = {
    "ellipse": lambda u, v: 1 - u**2 - (v / 0.62) ** 2,
    "box": lambda u, v: 1 - np.maximum(np.abs(u / 0.85), np.abs(v / 0.62)),
    "star": lambda u, v: 0.72 + 0.28 * np.cos(5 * np.arctan2(u, -v)) - np.hypot(u, v),
    "ring": lambda u, v: 0.32 - np.abs(np.hypot(u, v) - 0.66),
    "cross": _cross,
    "arrow": _arrow,
}
"""How deep inside the shape a point of [-1, 1]^2 lies; positive is inside."""
TEXTURES: dict[str, Field] = {
    "stripe": lambda u, v: np.sin(12 * u) > 0,
    "dot": lambda u, v: np.hypot((u * 2.4) % 1 - 0.5, (v * 2.4) % 1 - 0.5) < 0.32,
    "check": lambda u, v: (np.floor(u * 2.6) + np.floor(v * 2.6)) % 2 > 0,
    "zigzag": lambda u, v: np.sin(12 * (v + 0.25 * np.abs((u * 4) % 2 - 1))) > 0.2,
    "spiral": lambda u, v: np.sin(10 * np.hypot(u, v) + 2 * np.arctan2(v, u)) > 0,
    "speckle": lambda u, v: np.sin(23 * u + 9 * np.sin(7 * v)) > 0.35,
}
"""Whether a point of the object's own frame is light."""


@dataclass(frozen=True)
class ObjectClass:
    """A class: its name, keys of `SHAPES` and `TEXTURES`, and where its badge sits (u, v)."""

    name: str
    shape: str
    texture: str
    badge: tuple[float, float]


WORLD = {
    "target": (
        ObjectClass("melon", "ellipse", "stripe", (0.5, 0.0)),
        ObjectClass("beetle", "ellipse", "dot", (-0.5, 0.0)),
        ObjectClass("crate", "box", "stripe", (-0.4, -0.15)),
        ObjectClass("quilt", "box", "check", (0.4, 0.15)),
        ObjectClass("flower", "star", "check", (0.0, 0.0)),
        ObjectClass("starfish", "star", "dot", (0.0, -0.4)),
    ),
    "external": (
        ObjectClass("tyre", "ring", "zigzag", (0.66, 0.0)),
        ObjectClass("wreath", "ring", "speckle", (-0.66, 0.0)),
        ObjectClass("kite", "cross", "zigzag", (0.0, 0.0)),
        ObjectClass("windmill", "cross", "spiral", (0.0, -0.6)),
        ObjectClass("rocket", "arrow", "speckle", (0.3, 0.0)),
        ObjectClass("dart", "arrow", "spiral", (-0.6, 0.0)),
    ),
}


def badge(index: int, u: ndarray, v: ndarray) -> tuple[ndarray, ndarray]:
    """Badge number `index` in its own frame: where it is, and which of its two inks shows."""
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    ink = (
        radius < 0.45,
        np.abs(u) < 0.3,
        np.cos(2 * angle) > 0,
        u + v > 0,
        np.minimum(np.abs(u), np.abs(v)) < 0.22,
        np.cos(3 * angle) > 0,
    )[index]
    return radius < 1, ink


def colour(
    rng: np.random.Generator, low: float = 40, high: float = 215, muted: float = 0.55
) -> ndarray:
    """A random RGB colour, float32 (3,), moved towards grey by the share `muted`."""
    rgb = rng.uniform(low, high, 3).astype(np.float32)
    return rgb + float(muted) * (rgb.mean() - rgb)


def cloud(rng: np.random.Generator, size: tuple[int, int], octaves: tuple[int, ...]) -> ndarray:
    """Smooth noise in about [-1, 1], (height, width): random grids of growing fineness, added."""
    height, width = size
    field = np.zeros(size, np.float32)
    for octave in octaves:
        coarse = rng.normal(size=(octave + 1, octave + 1)).astype(np.float32)
        field += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return field / float(len(octaves) ** 0.5)


def ground(rng: np.random.Generator, size: tuple[int, int]) -> ndarray:
    """A background of two to four textured regions, float32 RGB (height, width, 3)."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32) / min(size)
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = colour(rng)
    for _ in range(rng.integers(1, 4)):
        region = cloud(rng, size, (1, 3)) > rng.uniform(-0.3, 0.6)
        canvas[region] = colour(rng)
    angle, wavelength = rng.uniform(0, np.pi), rng.uniform(0.03, 0.12)
    phase = 2 * np.pi / wavelength
    ripple = np.sin(x * float(phase * np.cos(angle)) + y * float(phase * np.sin(angle)))
    grain = rng.uniform(0, 14) * ripple * (cloud(rng, size, (2,)) > 0)
    canvas += (grain + rng.uniform(5, 15) * cloud(rng, size, (6, 14, 30)))[..., None]
    return canvas


def distract(rng: np.random.Generator, canvas: ndarray) -> None:
    """Draw lines, discs and bars that belong to no class, in place."""
    height, width = canvas.shape[:2]
    for _ in range(rng.integers(2, 7)):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        reach = int(min(height, width) * rng.uniform(0.03, 0.12))
        # Some distractors are as vivid as a badge, so that a hue alone is not enough.
        paint = colour(rng, 20, 240, rng.choice((0.0, 0.6), p=(0.3, 0.7))).tolist()
        form = rng.integers(3)
        if form == 0:
            end = (x + int(rng.normal() * 4 * reach), y + int(rng.normal() * 4 * reach))
            cv2.line(canvas, (x, y), end, paint, int(rng.integers(1, 4)) * ROOM, cv2.LINE_AA)
        elif form == 1:
            cv2.circle(canvas, (x, y), reach, paint, -1, cv2.LINE_AA)
        else:
            spread = ((x, y), (2.0 * reach, 0.7 * reach), float(rng.uniform(0, 180)))
            cv2.fillPoly(canvas, [cv2.boxPoints(spread).astype(np.int32)], paint, cv2.LINE_AA)


def draw_object(
    rng: np.random.Generator,
    canvas: ndarray,
    mask: ndarray,
    classes: tuple[ObjectClass, ...],
    index: int,
) -> None:
    """Draw one object of class `index` (0-based) into `canvas` and `mask`, in place."""
    item = classes[index]
    height, width = mask.shape
    radius = float(min(height, width) * np.exp(rng.uniform(np.log(0.17), np.log(0.46))))
    cy = rng.uniform(0.35 * radius, height - 0.35 * radius)
    cx = rng.uniform(0.35 * radius, width - 0.35 * radius)
    angle = rng.uniform(-0.5, 0.5)
    squeeze = rng.uniform(0.85, 1.15)
    flip = int(rng.choice((-1, 1)))
    # Work on the object's own box alone; no shape reaches beyond 1.25 of its radius.
    top, bottom = max(0, int(cy - 1.25 * radius)), min(height, int(cy + 1.25 * radius) + 1)
    left, right = max(0, int(cx - 1.25 * radius)), min(width, int(cx + 1.25 * radius) + 1)
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    y, x = (y - cy) / radius, (x - cx) / radius
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    u = flip * (x * cos + y * sin) / squeeze
    v = (y * cos - x * sin) * squeeze
    depth = SHAPES[item.shape](u, v)
    inside = depth > 0

    base = colour(rng, 60, 200)
    contrast = rng.uniform(0.3, 0.5)
    light = 1 + rng.uniform(0.05, 0.2) * (rng.uniform(-1, 1) * x - y)
    # Larger objects are nearer: their pattern grows, though less than they do.
    fine = (radius / (0.25 * min(height, width))) ** 0.6
    light_parts = TEXTURES[item.texture](u * fine, v * fine).astype(np.float32)
    lightness = 1 - contrast + 2 * contrast * light_parts
    body = base * (lightness * light)[..., None]
    body[depth < 0.07] *= 0.75
    side = 0.36
    on, ink = badge(index, (u - item.badge[0]) / side, (v - item.badge[1]) / side)
    # Six hues, one a class, within ten degrees: distractors come in the same ones.
    hue = (60 * index + rng.uniform(-10, 10)) / 360 % 1
    paint = 255 * np.float32(colorsys.hsv_to_rgb(hue, rng.uniform(0.8, 1), rng.uniform(0.75, 1)))
    plain = colour(rng, 215, 255) if rng.random() < 0.5 else colour(rng, 0, 40)
    body[on] = np.where(ink[on][:, None], paint, plain)
    canvas[top:bottom, left:right][inside] = body[inside]
    mask[top:bottom, left:right][inside] = index + 1


def scene(
    rng: np.random.Generator, classes: tuple[ObjectClass, ...]
) -> tuple[ndarray, ndarray, tuple[int, ...]]:
    """Draw one scene.

    Returns:
        RGB uint8 image (H, W, 3); class indices uint8 (H, W), 0 background, 255 along contours;
        the 1-based classes that can be seen, in rising order.
    """
    height, width = (int(n) for n in rng.integers(88, 129, 2))
    size = (height * ROOM, width * ROOM)
    while True:
        canvas = ground(rng, size)
        distract(rng, canvas)
        mask = np.zeros(size, np.uint8)
        chosen = rng.choice(len(classes), rng.choice((1, 2, 3), p=(0.35, 0.4, 0.25)))
        for index in chosen:
            draw_object(rng, canvas, mask, classes, int(index))
        count = np.bincount(mask.ravel(), minlength=len(classes) + 1)
        # People would not tag an object that is nearly hidden.
        if all(count[index + 1] > 0.008 * mask.size for index in chosen):
            break
    canvas *= (1 + 0.18 * cloud(rng, size, (1,)))[..., None]
    image = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    image += rng.normal(0, rng.uniform(2, 7), image.shape).astype(np.float32)
    # Where the four samples of a pixel disagree the class is not defined, as on VOC contours.
    samples = mask.reshape(height, ROOM, width, ROOM)
    label = np.where(samples.min((1, 3)) == samples.max((1, 3)), mask[::ROOM, ::ROOM], 255)
    seen = tuple(sorted({int(index) + 1 for index in chosen}))
    return image.clip(0, 255).round().astype(np.uint8), label.astype(np.uint8), seen


def save_scene(job: tuple[Path, str, str, list[int]]) -> None:
    """Draw one scene from its own seed and write its three files: (folder, id, world, seed)."""
    root, key, world, seed = job
    cv2.setNumThreads(1)
    classes = WORLD[world]
    image, mask, seen = scene(np.random.default_rng(seed), classes)
    Image.fromarray(image).save(root / "JPEGImages" / f"{key}.jpg", quality=92)
    png = Image.fromarray(mask)
    png.putpalette(palette(256).tobytes())
    png.save(root / "SegmentationClass" / f"{key}.png")
    objects = "".join(f"<object><name>{classes[k - 1].name}</name></object>" for k in seen)
    (root / "Annotations" / f"{key}.xml").write_text(
        f"<annotation><filename>{key}.jpg</filename><size><width>{mask.shape[1]}</width>"
        f"<height>{mask.shape[0]}</height><depth>3</depth></size>{objects}</annotation>\n"
    )


def draw(
    root: Path | str, seed: int = 0, train: int = 1200, val: int = 240, world: str = "target"
) -> Path:
    """Draw a data set in `root`, which appears when all of it is written, or stays where it exists.

    Args:
        seed: of the world; the same seed gives the same pixels.
        train, val: numbers of images.
        world: "target" or "external", a key of `WORLD`.
    """
    root = Path(root)
    if root.exists():
        return root
    classes = WORLD[world]
    names = ["background", *(item.name for item in classes)]
    with new_data_folder(root, names) as data:
        for folder in ("Annotations", "SegmentationClass"):
            (data.root / folder).mkdir()
        for split, (name, count) in enumerate((("train", train), ("val", val))):
            ids = [f"{name}_{number:05d}" for number in range(count)]
            stream = [seed, list(WORLD).index(world), split]
            jobs = [(data.root, key, world, [*stream, number]) for number, key in enumerate(ids)]
            with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
                list(pool.map(save_scene, jobs, chunksize=32))
            data.lists[name] = ids
    return root


def main(
    root: tyro.conf.Positional[Path],
    seed: int = 0,
    train: int = 1200,
    val: int = 240,
    world: Literal["target", "external"] = "target",
) -> None:
    """Draw the embedded data set in VOC layout.

    Args:
        root: Folder to make.
        seed: Seed of the world.
        train: Training images.
        val: Validation images.
        world: Which of the two worlds.
    """
    if root.exists():
        raise UserError(f"{root} exists already: name a new folder or remove it")
    draw(root, seed, train, val, world)


if __name__ == "__main__":
    with entry():
        tyro.cli(main)
