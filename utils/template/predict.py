"""Segment pictures with the model.pt2 beside this file. Needs torch, NumPy and Pillow alone
(for TIFF also tifffile and imagecodecs, for PNG of 16 bits in colour opencv-python-headless).

For each picture it writes NAME.png (a palette PNG: the class index of each pixel, at the picture's
own size) and NAME_overlay.jpg (the classes over the picture, with a legend), and prints how much of
the picture each class covers. cover.csv has that in numbers, with a row for each picture.

Masks are those of `test.py --crf` where the package densecrf is installed, which refines their
borders: pip install the densecrf-*.tar.gz beside this file. Pictures more than twice as large as
those that the network learned from are predicted in windows, by the file tile.py beside this one.
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
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, UnidentifiedImageError
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
except ImportError:
    tile = None

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".avif", ".heic")
PIXELS_AT_ONCE, PIXELS_AT_ALL = 1 << 26, 1 << 28
ORIENTATION = 0x0112  # EXIF tag
TURNS = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image[::-1].swapaxes(0, 1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image.swapaxes(0, 1)[::-1],
}
Image.MAX_IMAGE_PIXELS = None  # `read` has a limit of its own


def read(
    path: Path, longest: int, bands: dict, whole: Callable = lambda size: False
) -> tuple[np.ndarray, tuple[int, int]]:
    """Read a picture as uint8 (H, W, channels), upright, its longer side at most `longest`.

    Also gives its own (height, width), of which `whole` says whether the picture stays so large.
    `bands` says which bands become channels, and which values become 0 and 255 where there are more
    than 8 bits.
    """
    if not path.is_file():
        raise ValueError("is not a file")
    with open(path, "rb") as file:
        head = file.read(26)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        pixels, size, orientation, alpha, nodata = read_tiff(path)
    else:
        pixels, size, orientation = read_file(path, head, whole)
        alpha, nodata = pixels.shape[2] in (2, 4), None
    if bands["index"]:
        chosen = [band - 1 for band in bands["index"]]
    else:
        chosen = list(range(pixels.shape[2] - alpha))
        if len(chosen) not in (1, 3):
            raise ValueError(f"has {len(chosen)} bands, but the network learned R, G and B")
    if max(chosen) >= pixels.shape[2]:
        raise ValueError(f"has {pixels.shape[2]} bands, but band {max(chosen) + 1} is needed")
    pixels = scale(pixels[..., chosen * 3 if len(chosen) == 1 else chosen], bands, nodata)
    if orientation in TURNS:
        pixels = TURNS[orientation](pixels)
        size = size[::-1] if orientation >= 5 else size
    shrink = longest / max(pixels.shape[:2])
    if shrink < 1 and not whole(size):
        pixels = smaller(pixels, [max(1, round(side * shrink)) for side in pixels.shape[:2]])
    return np.ascontiguousarray(pixels), size


def smaller(pixels: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """A picture (H, W, channels) at a smaller (height, width)."""
    parts = [average(average(part, size[0]).T, size[1]).T for part in np.moveaxis(pixels, 2, 0)]
    return np.rint(np.dstack(parts)).astype(np.uint8)


def reduce(pixels: np.ndarray, step: int) -> np.ndarray:
    """A picture (H, W, channels) of which `step` pixels a side become one."""
    size = [-(-side // step) for side in pixels.shape[:2]]
    return smaller(pixels, size) if step > 1 else pixels


def average(values: np.ndarray, rows: int) -> np.ndarray:
    """Shrink an array (H, W) to (rows, W): means over H / rows rows, parts of rows counted so."""
    ends = np.arange(rows + 1) * (len(values) / rows)
    whole = np.minimum(ends.astype(int), len(values) - 1)
    rest = (ends - whole)[:, None] * values[whole]
    rest[-1] = 0  # the last sum reaches the end
    sums = np.add.reduceat(values, whole[:-1], axis=0, dtype=float)
    return (sums - rest[:-1] + rest[1:]) * (rows / len(values))


def read_file(path: Path, head: bytes, whole: Callable) -> tuple[np.ndarray, tuple[int, int], int]:
    """All bands (H, W, bands) of a file that is not a TIFF, its (height, width) and orientation."""
    with Image.open(path) as image:
        size = image.height, image.width
        if image.width * image.height > PIXELS_AT_ALL:
            raise ValueError(f"has more than {PIXELS_AT_ALL >> 20} million pixels")
        orientation = image.getexif().get(ORIENTATION, 1)
        if image.width * image.height > PIXELS_AT_ONCE and not whole(size):
            image.draft("RGB", (image.width // 2, image.height // 2))  # of JPEG alone
        if head[:4] == b"\x89PNG" and head[24] == 16 and head[25] in (2, 4, 6):
            return read_deep(path), size, orientation  # Pillow would drop half of the bits
        if image.mode.startswith("I"):
            return np.asarray(image).astype(np.uint16)[..., None], size, orientation
        image = image if image.mode == "RGBA" else image.convert("RGB")
        return np.asarray(image), size, orientation


def read_deep(path: Path) -> np.ndarray:
    """Bands of a PNG of 16 bits in colour, uint16 (H, W, 3 or 4)."""
    if cv2 is None:
        raise ValueError("has 16 bits in colour: pip install opencv-python-headless")
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), flags)
    if pixels is None:
        raise ValueError("is damaged")
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


def read_tiff(path: Path) -> tuple[np.ndarray, tuple[int, int], int, bool, float | None]:
    """Bands (H, W, bands) of a TIFF, (height, width), orientation, transparency, nodata."""
    try:
        import tifffile
    except ImportError:
        raise ValueError("is a TIFF: pip install tifffile imagecodecs") from None
    try:
        with tifffile.TiffFile(path) as file:
            series, page = file.series[0], file.pages[0]
            if page.photometric not in (1, 2):
                raise ValueError("is a TIFF of a rare kind: save it as grey or RGB")
            if page.imagelength * page.imagewidth > PIXELS_AT_ALL:
                raise ValueError(f"has more than {PIXELS_AT_ALL >> 20} million pixels")
            pixels, axes = series.asarray(), series.axes
            facts = {tag: page.tags[tag].value for tag in (274, 42113) if tag in page.tags}
            alpha = bool(page.extrasamples) and page.extrasamples[-1] in (1, 2)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"is not a readable TIFF ({str(error)[:80]})") from None
    rows, columns = axes.index("Y"), axes.index("X")
    pixels = np.moveaxis(pixels, (rows, columns), (0, 1))
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    nodata = float(facts[42113]) if 42113 in facts else None
    return pixels, pixels.shape[:2], int(facts.get(274, 1)), alpha, nodata


def scale(pixels: np.ndarray, bands: dict, nodata: float | None) -> np.ndarray:
    """Bring values to 0..255; those of 8 bits stay as they are."""
    if pixels.dtype == np.uint8:
        return pixels
    ranges = list(zip(bands["low"], bands["high"]))
    if not ranges:
        if pixels.dtype != np.uint16 or pixels.max() < 1 << 15:
            raise ValueError("has more than 8 bits, but the network learned 8 bits: convert it")
        ranges = [(0.0, 65535.0)]
    ranges *= pixels.shape[2] // len(ranges)
    out = np.empty(pixels.shape, np.uint8)
    for k, (low, high) in enumerate(ranges):
        values = (pixels[..., k].astype(np.float64) - low) * (255 / (high - low))
        out[..., k] = np.rint(np.nan_to_num(values, nan=0.0).clip(0, 255)).astype(np.uint8)
        if nodata is not None:
            out[..., k][pixels[..., k] == nodata] = 0
    return out


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

    def large(
        self, pixels: np.ndarray, window: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray, float, float]:
        """Classes of a picture that is predicted in windows, and the picture as an overlay has it.

        A window is shrunk to as many pixels as test.py lets a picture have, and so is the overlay.
        Also gives the mean of the highest probability, and the difference as `score` has it.
        """
        full, most = pixels.shape[:2], self.how["work_pixels"]
        step = math.ceil(math.sqrt(math.prod(window) / most))
        window = -(-window[0] // step), -(-window[1] // step)
        pixels = reduce(pixels, step)
        unit = math.ceil(math.sqrt(math.prod(pixels.shape[:2]) / most))
        preset = self.preset(window)
        widths = [kernel.sxy for kernel in preset.kernels] if preset else [0]
        tiling = tile.Tiling(pixels.shape[:2], window, math.ceil(tile.MARGIN * max(widths)), unit)
        label, scores = np.empty(pixels.shape[:2], np.uint8), {}
        confidence, differences = 0.0, []
        for row in tiling.blocks:
            touching = tiling.rows.touching(row[0].rows)
            scores = {key: score for key, score in scores.items() if key[0] in touching}
            for r in touching:
                for c, left in enumerate(tiling.columns.starts):
                    if (r, c) not in scores:
                        top = tiling.rows.starts[r]
                        part = pixels[top : top + window[0], left : left + window[1]]
                        scores[r, c], difference = self.cells(part)
                        differences.append(difference)
            for block in row:
                image = pixels[block.rows, block.columns]
                score = self.refine(tiling.blend(scores, block), image, preset)
                label[block.core_rows, block.core_columns] = score.argmax(0)[block.inside]
                confidence += float(score.max(0)[block.inside].sum(dtype=float)) / label.size
        enlarged = label.repeat(step, 0).repeat(step, 1)[: full[0], : full[1]]
        return enlarged, reduce(pixels, unit), confidence, float(np.mean(differences))

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
        for part in zip(*views):
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
    columns = [
        "name",
        *(f"{name} %" for name in classes),
        *(f"{name} parts" for name in classes[1:]),
    ]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")
    for row in ([*columns, "confidence", "difference", "width", "height"], *rows):
        formula = [
            isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") for cell in row
        ]
        table.writerow([f"'{cell}" if risky else cell for cell, risky in zip(row, formula)])
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
    if tile is None:
        print("without the file tile.py beside predict.py, large pictures are shrunk")

    def choose(size: tuple[int, int]) -> tuple[int, int] | None:
        return tile and tile.choose_window(setting, network.how["window"], size)

    flags.out.mkdir(parents=True, exist_ok=True)
    failed, rows = [], []
    for name, path in find(flags.pictures).items():
        target = flags.out / f"{name}.png"
        try:
            if target.exists() and path.exists() and target.samefile(path):
                raise ValueError("would be overwritten by its result: give another --out")
            pixels, size = read(path, flags.longest, network.bands, choose)
        except (OSError, ValueError, SyntaxError, UnidentifiedImageError) as error:
            failed.append(f"{path}: {getattr(error, 'strerror', None) or error}")
            continue
        if window := choose(size):
            whole, pixels, confidence, difference = network.large(pixels, window)
            label = enlarge(whole, pixels.shape[:2])
        else:
            score, difference = network.score(pixels)
            label, confidence = score.argmax(0).astype(np.uint8), float(score.max(0).mean())
            whole = enlarge(label, size)
        mask = Image.fromarray(whole)
        mask.putpalette(palette().tobytes())
        save(mask, target)
        page = overlay(Image.fromarray(np.ascontiguousarray(pixels[..., :3])), label, classes)
        save(page, flags.out / f"{name}_overlay.jpg", quality=90)
        share = np.bincount(whole.ravel(), minlength=len(classes)) / whole.size
        connected = [count_parts(label == k) for k in range(1, len(classes))]
        numbers = [round(confidence, 4), round(difference, 4), *size[::-1]]
        rows.append([path.name, *(100 * share).round(4).tolist(), *connected, *numbers])
        parts = [f"{classes[k]} {share[k]:.1%}" for k in np.argsort(-share, kind="stable")]
        print(f"{path}: " + ", ".join(part for part in parts if not part.endswith(" 0.0%")))
    write_table(flags.out / "cover.csv", classes, rows)
    print(f"masks and overlays are in {flags.out}", *failed, sep="\nnot read: ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
