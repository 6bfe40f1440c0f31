"""Segment pictures with the model.pt2 beside this file. Needs torch, NumPy and Pillow alone
(for TIFF also tifffile and imagecodecs, for PNG of 16 bits in colour opencv-python-headless) and
the files picture.py, tile.py and tiff.py beside it.

For each picture it writes NAME.png (a palette PNG: the class index of each pixel, at the picture's
own size) and NAME_overlay.jpg (the classes over the picture, with a legend), and prints how much of
the picture each class covers. cover.csv has that in numbers, with a row for each picture.

Masks are those of `test.py --crf` where the package densecrf is installed, which refines their
borders: pip install the densecrf-*.tar.gz beside this file. Pictures more than twice as large as
those that the network learned from are predicted in windows; a TIFF is then read in rows.
"""

import argparse
import base64
import csv
import io
import json
import math
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.nn.functional import interpolate

try:
    import cv2
except ImportError:
    cv2 = None
try:
    import densecrf
except ImportError:
    densecrf = None
sys.path.append(str(Path(__file__).resolve().parent))
try:
    import tile
    from picture import Picture, reduce
except ModuleNotFoundError as error:
    if error.name not in ("picture", "tile", "tiff"):
        raise
    sys.exit(f"{sys.argv[0]} needs {error.name}.py beside it: copy the whole exported folder")

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".avif", ".heic")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


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


class Network:
    """The network of a model.pt2, and how test.py predicts with it.

    Args:
        path: written by export.py.
        fast: one pass, instead of all scales and mirror images.
    """

    def __init__(self, path: Path, fast: bool):
        names = ("classes.json", "bands.json", "prediction.json", "join.pt2.base64")
        extra = dict.fromkeys(names, "")
        self.view = torch.export.load(path, extra_files=extra).module()
        self.view.to(memory_format=torch.channels_last)
        join = io.BytesIO(base64.b64decode(extra["join.pt2.base64"]))
        self.join = torch.export.load(join).module()
        self.classes = json.loads(extra["classes.json"])
        self.bands = json.loads(extra["bands.json"]) or {"index": (), "low": (), "high": ()}
        self.how = json.loads(extra["prediction.json"])
        if fast:
            self.how |= {"scales": [1.0], "mirror": False}

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width at which a picture enters the network at scale 1."""
        rows, columns = self.how["size"]
        if self.how["fit"] == "warp":
            return rows, columns
        if self.how["fit"] == "window":  # as many pixels, both sides multiples of 16
            factor = math.sqrt(rows * columns / (height * width))
            return tuple(16 * max(2, int(side * factor / 16 + 0.5)) for side in (height, width))
        if self.how["long"]:
            factor = self.how["long"] / max(height, width)
            return tuple(max(1, int(side * factor + 0.5)) for side in (height, width))
        return height, width

    def score(self, pixels: np.ndarray) -> tuple[np.ndarray, float]:
        """Probability of each class, float32 (C, H, W), at the pixels of a picture.

        Also gives the share of the picture in which the class of its mirror image is another.
        """
        height, width = pixels.shape[:2]
        score, difference = self.cells(pixels)
        if cv2 is None:
            score = resize(torch.from_numpy(score)[None], (height, width))[0].numpy()
        else:  # equal to the last bit to test.py
            score = np.stack([cv2.resize(maps, (width, height)) for maps in score])
        return self.refine(score, pixels, self.preset(pixels.shape)), difference

    def large(self, picture: Picture, window: tuple[int, int]) -> tuple:
        """Classes of a picture that is predicted in windows, and the picture as an overlay has it.

        A window is shrunk to as many pixels as test.py lets a picture have, and so is the overlay.
        Also gives the mean of the highest probability, and the difference as `score` has it.
        """
        most = self.how["work_pixels"]
        step = tile.window_step(window, most)
        window, size = ([-(-side // step) for side in sides] for sides in (window, picture.size))
        unit = math.ceil(math.sqrt(math.prod(size) / most))
        preset = self.preset(window)
        widths = [kernel.sxy for kernel in preset.kernels] if preset else [0]
        tiling = tile.Tiling(size, window, math.ceil(tile.MARGIN * max(widths)), unit)
        label, scores, differences, confidence = np.empty(size, np.uint8), {}, [], 0.0
        shown = np.empty((*(-(-side // unit) for side in size), 3), np.uint8)
        pixels, top = reduce(picture.rows(0, step), step), 0  # all rows from `top` on that are read
        for row in tiling.blocks:
            touching = tiling.rows.touching(row[0].rows)
            last = max(row[0].rows.stop, tiling.rows.starts[touching[-1]] + window[0])
            more = picture.rows((top + len(pixels)) * step, last * step)
            pixels = pixels[row[0].rows.start - top :]
            pixels = np.concatenate((pixels, reduce(more, step))) if len(more) else pixels
            top = row[0].rows.start
            scores = {key: score for key, score in scores.items() if key[0] in touching}
            for r in touching:
                for c, left in enumerate(tiling.columns.starts):
                    if (r, c) not in scores:
                        first = tiling.rows.starts[r] - top
                        part = pixels[first : first + window[0], left : left + window[1]]
                        scores[r, c], difference = self.cells(part)
                        differences.append(difference)
            for block in row:
                image = pixels[: block.rows.stop - top, block.columns]
                score = self.refine(tiling.blend(scores, block), image, preset)
                label[block.core_rows, block.core_columns] = score.argmax(0)[block.inside]
                confidence += float(score.max(0)[block.inside].sum(dtype=float)) / label.size
                small = reduce(image[block.inside][..., :3], unit)
                first, left = block.core_rows.start // unit, block.core_columns.start // unit
                shown[first : first + len(small), left : left + small.shape[1]] = small
        if step > 1:
            label = label.repeat(step, 0).repeat(step, 1)[: picture.size[0], : picture.size[1]]
        return label, shown, confidence, float(np.mean(differences))

    @torch.no_grad()
    def cells(self, pixels: np.ndarray) -> tuple[np.ndarray, float]:
        """`score` at the size at which the network gives it, without CRF."""
        image = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()).float()
        base, views, other = self.input_size(*pixels.shape[:2]), [], None
        for scale in self.how["scales"]:
            scaled = resize(image, [max(1, round(side * scale)) for side in base])
            scaled = scaled.contiguous(memory_format=torch.channels_last)
            views.append(self.view(scaled))
            if other is None or self.how["mirror"]:
                flipped = self.view(scaled.flip(3))
                flipped = tuple(part.flip(3) if part.ndim == 4 else part for part in flipped)
                other = other or flipped
                views += [flipped] * self.how["mirror"]
        first, second = (self.mean([view]).argmax(1) for view in (views[0], other))
        difference = (first != second).float().mean().item()
        return self.mean(views)[0].numpy(), difference

    def mean(self, views: list[tuple[torch.Tensor, ...]]) -> torch.Tensor:
        """Scores (1, C, h, w) of views, at the size of the largest."""
        means = []
        for number, part in enumerate(zip(*views)):
            part = part[:1] if number in self.how["first_view"] else part
            largest = max(tuple(maps.shape[-2:]) for maps in part)
            means.append(torch.stack([resize(maps, largest) for maps in part]).mean(0))
        return self.join(tuple(means), torch.tensor(float(len(views))))

    def preset(self, size: tuple[int, ...]) -> object:
        """The CRF of the recipe for a picture of that height and width; None: there is none."""
        if densecrf is None or not self.how["crf"]:
            return None
        scale = self.how["crf_scale"] or 500 / max(size[:2])
        return densecrf.preset(self.how["crf"], scale=scale)

    def refine(self, score: np.ndarray, pixels: np.ndarray, preset: object) -> np.ndarray:
        """Scores after a CRF; as they are without."""
        if preset is None:
            return score
        highest = score.max((1, 2))
        kept = highest >= min(self.how.get("crf_least", 0), highest.max())
        if not kept.all():  # classes that are improbable everywhere
            refined = np.zeros_like(score)
            refined[kept] = self.refine(score[kept], pixels, preset) if kept.sum() > 1 else 1
            return refined
        energy = -np.log(np.maximum(score, np.float32(1e-5)))
        return densecrf.mean_field(energy, np.ascontiguousarray(pixels[..., :3]), preset)


def resize(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Maps (N, C, h, w) at another (height, width)."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return interpolate(maps, tuple(size), mode="bilinear")


def enlarge(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Class indices (H, W) at another (height, width), each of the pixel it lies in."""
    rows, columns = (
        np.minimum((np.arange(new) * (1 / (new / old))).astype(int), old - 1)
        for old, new in zip(label.shape, size)
    )
    return label[rows[:, None], columns]


def count_parts(mask: np.ndarray) -> int:
    """Number of connected parts (8 neighbours) of a bool mask (H, W)."""
    width = mask.shape[1] + 2  # a clear pixel at both ends keeps the runs of rows apart
    steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).ravel().astype(np.int8), prepend=0)
    starts, ends = np.flatnonzero(steps > 0), np.flatnonzero(steps < 0)
    # Runs of the row above that touch a run: from the first that ends behind its start.
    first = np.searchsorted(ends, starts - width, "left")
    last = np.searchsorted(starts, ends - width, "right")
    root = list(range(len(starts)))

    def find(run: int) -> int:
        while root[run] != run:
            root[run] = run = root[root[run]]
        return run

    for run, (low, high) in enumerate(zip(first.tolist(), last.tolist())):
        for above in range(low, high):
            root[find(run)] = find(above)
    return sum(run == own for run, own in enumerate(root))


def write_table(path: Path, classes: list[str], rows: list[list]) -> None:
    """Write cover.csv: UTF-8 with a byte order mark, which Excel needs; no cell is a formula."""
    shares, parts = (f"{name} %" for name in classes), (f"{name} parts" for name in classes[1:])
    columns = ["name", *shares, *parts, "confidence", "difference", "width", "height"]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")
    for row in (columns, *rows):
        table.writerow([f"'{cell}" if str(cell).startswith(FORMULA) else cell for cell in row])
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(text.getvalue().encode("utf-8-sig"))
    os.replace(part, path)


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
        inside = sorted(path.iterdir()) if path.is_dir() else []
        files += [x for x in inside if x.suffix.lower() in SUFFIXES and not x.name.startswith(".")]
        files += [] if path.is_dir() else [path]
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
    parser.add_argument(
        "--fast", action="store_true",
        help="one pass of the network instead of all scales and mirror images",
    )  # fmt: skip
    parser.add_argument(
        "--tile", default="auto",
        help="windows of large pictures, which are then not shrunk: auto, off, or pixels a side "
        "(default auto: twice the size of the training pictures is large)",
    )  # fmt: skip
    if len(sys.argv) == 1:
        parser.print_help()
        return 2
    flags = parser.parse_args()
    if flags.longest < 1:
        parser.error("--longest must be 1 or more")
    setting = int(flags.tile) if flags.tile.isdecimal() else flags.tile
    if setting not in ("auto", "off") and not (isinstance(setting, int) and setting >= 16):
        parser.error("--tile must be auto, off or a number of 16 or more")
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
    except ImportError:
        pass  # HEIC is then told to be unreadable
    home = Path(__file__).resolve().parent
    network = Network(home / "model.pt2", flags.fast)
    classes = network.classes
    if densecrf is None and network.how["crf"]:
        archive = next(iter(sorted(home.glob("densecrf-*.tar.gz"))), "densecrf")
        print(
            "without the package densecrf, borders are coarser and areas can differ by tens of "
            f"percent: pip install {archive}"
        )
    flags.out.mkdir(parents=True, exist_ok=True)
    failed, rows = [], []
    for name, path in find(flags.pictures).items():
        target = flags.out / f"{name}.png"
        try:
            if target.exists() and path.exists() and target.samefile(path):
                raise ValueError("would be overwritten by its result: give another --out")
            picture = Picture(path, network.bands)
            if window := tile.choose_window(setting, network.how["window"], picture.size):
                whole, pixels, confidence, difference = network.large(picture, window)
                label = enlarge(whole, pixels.shape[:2])
            else:
                pixels = picture.shrunk(flags.longest)
                score, difference = network.score(pixels)
                label, confidence = score.argmax(0).astype(np.uint8), float(score.max(0).mean())
                whole = enlarge(label, picture.size)
        except (ImportError, OSError, SyntaxError, ValueError) as error:
            reason = str(getattr(error, "strerror", None) or error).removeprefix(f"{path} ")
            failed.append(f"{path}: {reason}")
            continue
        mask = Image.fromarray(whole)
        mask.putpalette(palette().tobytes())
        save(mask, target)
        page = overlay(Image.fromarray(np.ascontiguousarray(pixels[..., :3])), label, classes)
        save(page, flags.out / f"{name}_overlay.jpg", quality=90)
        share = np.array([np.count_nonzero(whole == k) for k in range(len(classes))]) / whole.size
        connected = [count_parts(label == k) for k in range(1, len(classes))]
        numbers = [round(confidence, 4), round(difference, 4), *picture.size[::-1]]
        rows.append([path.name, *(100 * share).round(4).tolist(), *connected, *numbers])
        parts = [f"{classes[k]} {share[k]:.1%}" for k in np.argsort(-share, kind="stable")]
        print(f"{path}: " + ", ".join(part for part in parts if not part.endswith(" 0.0%")))
    write_table(flags.out / "cover.csv", classes, rows)
    print(f"masks and overlays are in {flags.out}", *failed, sep="\nnot read: ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
