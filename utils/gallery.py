"""Small pictures of the images worth looking at: photo, truth, predictions, where they err."""

import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from base import IGNORE, UserError
from datalist.image import read_image
from datalist.spec import Spec, palette
from utils.measure import Measured, Predictions, read_truth

SIDE = 400  # pixels of the longer side; what a phone shows across
BUDGET = 3_400_000  # bytes of all pictures, in base64: the page stays below 5 MB
LIMIT = 120  # images

RIGHT, MISSED, INVENTED, SWAPPED = 0, 1, 2, 3
ERROR_COLOURS = np.array([(0, 0, 0), (47, 125, 225), (240, 128, 60), (190, 75, 205)], np.uint8)


def disagreement(
    spec: Spec,
    ids: list[str],
    runs: list[tuple[Predictions, Measured]],
    workers: int,
    quiet: bool,
) -> NDArray[np.float64]:
    """Share of each image's counted pixels on which two runs differ, (N,) in [0, 1]."""

    def one(image_id: str) -> float:
        first, second = (p.label(image_id, m.threshold or 0) for p, m in runs)
        counted = read_truth(spec, image_id) != IGNORE
        return float((first != second)[counted].mean()) if counted.any() else 0.0

    with ThreadPoolExecutor(max(1, workers)) as pool:
        found = pool.map(one, ids)
        bar = tqdm(found, "compare", len(ids), unit=" images", disable=quiet, dynamic_ncols=True)
        return np.array(list(bar))


def choose(image_iou: NDArray, image_miou: NDArray, disagree: NDArray | None = None) -> list[int]:
    """Put images in the order in which they deserve a place in the gallery.

    The dozen worst and the dozen best (or, of two runs, those that disagree most), then the worst
    and best of every class in turn, so that each filter of the page has something to show.

    Args:
        image_iou: (N, C), NaN where a class is absent. image_miou: (N,), NaN = nothing counted.
        disagree: share of pixels on which two runs differ, (N,).

    Returns:
        Row numbers, no more than LIMIT.
    """

    def by(values: NDArray) -> list[int]:
        order = np.argsort(values, kind="stable")
        return [int(n) for n in order if not np.isnan(values[n])]

    overall = by(image_miou)
    queues = [iter(overall), iter(overall[::-1])]
    head = overall[:12] + overall[::-1][:12]
    if disagree is not None:
        head = by(-disagree)[:24]
        queues.append(iter(by(-disagree)))
    for values in image_iou.T:
        order = by(values)
        queues += [iter(order), iter(order[::-1])]
    return list(dict.fromkeys(head + list(_in_turn(queues, 12))))[:LIMIT]


def _in_turn(queues: list[Iterator[int]], rounds: int) -> Iterator[int]:
    for _ in range(rounds):
        for queue in queues:
            yield from [n for n in [next(queue, None)] if n is not None]


def pictures(spec: Spec, image_id: str, labels: list[NDArray[np.uint8]]) -> dict:
    """Pictures of one image as data URIs, no larger than SIDE.

    Args:
        labels: class indices (H, W) of one or two runs.

    Returns:
        "size" (width, height), "photo", "truth", "prediction" (one for each run), and "error":
        for one run where it missed, invented or swapped a class; for two where they differ and
        which of them is right.
    """
    truth = read_truth(spec, image_id)
    height, width = truth.shape
    shrink = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    try:
        photo = cv2.resize(
            read_image(spec.image_path(image_id)), size, interpolation=cv2.INTER_AREA
        )
    except UserError:  # masks can be scored without the photographs
        photo = np.full((size[1], size[0], 3), 128, np.uint8)
    truth, *labels = (
        cv2.resize(label, size, interpolation=cv2.INTER_NEAREST) for label in (truth, *labels)
    )
    error = errors(truth, labels[0]) if len(labels) == 1 else differences(truth, *labels)
    clear = np.full(256, 255, np.uint8)
    clear[0] = 0  # background shows the photo
    clear[IGNORE] = 150
    colour = palette(256)
    colour[IGNORE] = 255
    return {
        "size": size,
        "photo": _jpeg(photo),
        "truth": _png(truth, colour, clear),
        "prediction": [_png(label, colour, clear) for label in labels],
        "error": _png(error, ERROR_COLOURS, clear),
    }


def errors(truth: NDArray, label: NDArray) -> NDArray[np.uint8]:
    """Kind of error of each pixel, (H, W): RIGHT, MISSED an object, INVENTED one, or SWAPPED."""
    kind = np.full(truth.shape, SWAPPED, np.uint8)
    kind[label == 0] = MISSED
    kind[truth == 0] = INVENTED
    kind[(truth == label) | (truth == IGNORE)] = RIGHT
    return kind


def differences(truth: NDArray, first: NDArray, second: NDArray) -> NDArray[np.uint8]:
    """Where two labels differ, (H, W): 1 the first is right, 2 the second, 3 neither; else 0."""
    kind = np.full(truth.shape, 3, np.uint8)
    kind[first == truth] = 1
    kind[second == truth] = 2
    kind[(first == second) | (truth == IGNORE)] = 0
    return kind


def _jpeg(image: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=78, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _png(index: NDArray[np.uint8], colour: NDArray[np.uint8], opacity: NDArray[np.uint8]) -> str:
    # Only the colours in use: a whole palette would outweigh most of these pictures.
    used, packed = np.unique(index, return_inverse=True)
    picture = Image.fromarray(packed.reshape(index.shape).astype(np.uint8), "P")
    picture.putpalette(colour[used].tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True, transparency=opacity[used].tobytes())
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
