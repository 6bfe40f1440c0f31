"""Segment pictures with the model.pt2 beside this file. Needs torch, NumPy and Pillow alone.

For each picture it writes NAME.png (a palette PNG: the class index of each pixel, at the picture's
own size) and NAME_overlay.jpg (the classes over the picture, with a legend), and prints how much of
the picture each class covers.
"""

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, UnidentifiedImageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
PIXELS_AT_ONCE, PIXELS_AT_ALL = 1 << 26, 1 << 28
ORIENTATION = 0x0112  # EXIF tag
TURNS = dict(
    zip(
        range(2, 9),
        (
            *(Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180),
            *(Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.TRANSPOSE),
            *(Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90),
        ),
    )
)
Image.MAX_IMAGE_PIXELS = None  # `read` has a limit of its own


def read(path: Path, longest: int) -> tuple[Image.Image, tuple[int, int]]:
    """Read a picture as RGB, upright, its longer side at most `longest`.

    Also gives its own (width, height). Of 16 bits the upper 8 are kept; transparency is dropped.
    """
    if not path.is_file():
        raise ValueError("is no file")
    with Image.open(path) as image:
        if image.width * image.height > PIXELS_AT_ALL:
            raise ValueError(f"has more than {PIXELS_AT_ALL >> 20} million pixels")
        size, turn = image.size, TURNS.get(image.getexif().get(ORIENTATION))
        if image.width * image.height > PIXELS_AT_ONCE:
            image.draft("RGB", (image.width // 2, image.height // 2))  # of JPEG alone
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8))
        image = image.convert("RGB")
    shrink = longest / max(image.size)
    if shrink < 1:
        image = image.resize([max(1, round(side * shrink)) for side in image.size], Image.BOX)
    if turn is not None:
        image = image.transpose(turn)
        size = size[::-1] if turn in [TURNS[k] for k in (5, 6, 7, 8)] else size
    return image, size


def palette() -> np.ndarray:
    """The VOC colour map, uint8 (256, 3)."""
    index, channel = np.arange(256)[:, None], np.arange(3)[None]
    bits = [((index >> (3 * j + channel)) & 1) << (7 - j) for j in range(8)]
    return np.sum(bits, axis=0).astype(np.uint8)


def overlay(image: Image.Image, label: np.ndarray, classes: list[str]) -> Image.Image:
    """Classes over a picture (background left as it is), with a legend below."""
    times = -(-400 // max(image.size))  # text beside fewer pixels could not be read
    image = image.resize([side * times for side in image.size])
    label = label.repeat(times, 0).repeat(times, 1)
    colours, pixels = palette(), np.asarray(image)
    mixed = np.where((label > 0)[..., None], pixels // 2 + colours[label] // 2, pixels)
    count = np.bincount(label.ravel(), minlength=len(classes))
    rows = [k for k in np.argsort(-count, kind="stable") if count[k]]
    page = Image.new("RGB", (image.width, image.height + 18 * len(rows) + 6), "white")
    page.paste(Image.fromarray(mixed))
    draw = ImageDraw.Draw(page)
    for number, k in enumerate(rows):
        top = image.height + 18 * number + 5
        colour = tuple(colours[k].tolist())
        draw.rectangle((6, top, 20, top + 12), fill=colour if k else None, outline="black")
        draw.text((28, top), f"{classes[k]}  {count[k] / label.size:.1%}", fill="black")
    return page


def save(image: Image.Image, path: Path, **options: object) -> None:
    """Write a picture to a temporary name, then rename it."""
    part = path.with_name(f".{path.name}.part")
    try:
        image.save(part, "PNG" if path.suffix == ".png" else "JPEG", **options)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def find(paths: list[Path]) -> dict[str, Path]:
    """Pictures by the name of their results: the stem, with suffix where two have the same."""
    files = []
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        known = [x for x in inside if x.suffix.lower() in SUFFIXES and not x.name.startswith(".")]
        files += known if path.is_dir() else inside
    files = list(dict.fromkeys(files))
    count = Counter(file.stem for file in files)
    return {file.stem if count[file.stem] == 1 else file.name: file for file in files}


def main() -> int:
    """Segment the pictures of the command line; 1 where one could not be read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path, help="pictures, or folders of them")
    parser.add_argument("--out", type=Path, default=Path("predicted"), help="default: predicted")
    parser.add_argument(
        "--longest", type=int, default=800,
        help="pixels; the network sees larger pictures shrunk to this longer side (default 800)",
    )  # fmt: skip
    if len(sys.argv) == 1:
        parser.print_help()
        return 2
    flags = parser.parse_args()
    if flags.longest < 1:
        parser.error("--longest must be 1 or more")
    extra = {"classes.json": ""}
    model = torch.export.load(Path(__file__).with_name("model.pt2"), extra_files=extra).module()
    classes = json.loads(extra["classes.json"])
    flags.out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name, path in find(flags.pictures).items():
        target = flags.out / f"{name}.png"
        try:
            if target.exists() and path.exists() and target.samefile(path):
                raise ValueError("would be overwritten by its result: give another --out")
            image, size = read(path, flags.longest)
        except (OSError, ValueError, SyntaxError, UnidentifiedImageError) as error:
            failed.append(f"{path}: {getattr(error, 'strerror', None) or error}")
            continue
        with torch.no_grad():
            pixels = torch.from_numpy(np.array(image).transpose(2, 0, 1)[None].copy())
            label = model(pixels)[0].argmax(0).to(torch.uint8).numpy()
        mask = Image.fromarray(label).resize(size, Image.NEAREST)
        mask.putpalette(palette().tobytes())
        save(mask, target)
        page = overlay(image, label, classes)
        save(page, flags.out / f"{name}_overlay.jpg", quality=90)
        share = np.bincount(label.ravel(), minlength=len(classes)) / label.size
        parts = [f"{classes[k]} {share[k]:.1%}" for k in np.argsort(-share, kind="stable")]
        print(f"{path}: " + ", ".join(part for part in parts if not part.endswith(" 0.0%")))
    print(f"masks and overlays are in {flags.out}", *failed, sep="\nnot read: ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
