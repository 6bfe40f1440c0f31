"""Small pictures of chosen images: photo, true mask, predictions and errors."""

import base64
import io
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from base import IGNORE, UserError
from datalist.image import read_mask, read_shown
from datalist.palette import palette
from datalist.spec import Spec
from utils.measure import Measured, Predictions
from utils.progress import in_threads

SIDE = 400
"""Pixels of the longer side of pictures."""
BUDGET = 3_400_000
"""Bytes of all pictures in base64; the page stays below 5 MB."""
LIMIT = 120
"""Images in the gallery."""

RIGHT, MISSED, INVENTED, SWAPPED = 0, 1, 2, 3
ERROR_COLOURS = np.array([(0, 0, 0), (47, 125, 225), (240, 128, 60), (190, 75, 205)], np.uint8)


def disagreement(
    spec: Spec, ids: list[str], runs: list[tuple[Predictions, Measured]], workers: int, quiet: bool
) -> NDArray[np.float64]:
    """Share of each image's counted pixels on which two runs differ, (N,) in [0, 1]."""

    def share(image_id: str) -> float:
        first, second = (p.label(image_id, m.threshold or 0) for p, m in runs)
        counted = read_mask(spec.mask_path(image_id)) != IGNORE
        return float((first != second)[counted].mean()) if counted.any() else 0.0

    return np.array(list(in_threads(share, ids, workers, "compare", quiet)))


def choose(image_iou: NDArray, image_miou: NDArray, disagree: NDArray | None = None) -> list[int]:
    """Order of the images in the gallery: row numbers, no more than LIMIT.

    The dozen worst and the dozen best by `image_miou` (N,), or, of two runs, those that disagree
    most; then the worst and best of every class in turn by `image_iou` (N, C), so that each filter
    of the page has something to show. NaN: not counted, or absent.
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
    chosen = [next(queue, None) for _ in range(12) for queue in queues]
    return [n for n in dict.fromkeys(head + chosen) if n is not None][:LIMIT]


def pictures(spec: Spec, image_id: str, labels: list[NDArray[np.uint8]]) -> dict:
    """Pictures of one image, with the labels (H, W) of one or two runs, as data URIs.

    "error" shows where one run missed, invented or swapped a class, or where two differ and which
    of them is right.
    """
    truth = read_mask(spec.mask_path(image_id))
    size = shrunk_size(*truth.shape)
    photo = small_photo(spec, image_id, size)
    nearest = cv2.INTER_NEAREST
    truth, *labels = (cv2.resize(mask, size, interpolation=nearest) for mask in (truth, *labels))
    error = errors(truth, labels[0]) if len(labels) == 1 else differences(truth, *labels)
    return {
        "size": size,
        "photo": jpeg_uri(photo),
        "truth": label_uri(truth),
        "prediction": [label_uri(label) for label in labels],
        "error": png_uri(error, ERROR_COLOURS, np.array([0, 255, 255, 255], np.uint8)),
    }


def overlay(spec: Spec, image_id: str, label: NDArray[np.uint8], side: int) -> dict:
    """Photo and label (H, W) of one image as data URIs, no larger than `side` pixels."""
    height, width = label.shape
    size = shrunk_size(height, width, side)
    label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
    photo = small_photo(spec, image_id, size)
    return {"size": size, "photo": jpeg_uri(photo), "label": label_uri(label)}


def shrunk_size(height: int, width: int, side: int = SIDE) -> tuple[int, int]:
    """Width and height with the longer side at most `side`."""
    factor = min(1.0, side / max(height, width))
    return max(1, round(width * factor)), max(1, round(height * factor))


def small_photo(spec: Spec, image_id: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Photo of an image at (width, height); grey where there is none that can be read."""
    try:
        image = read_shown(spec.image_path(image_id), spec.bands)
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    except UserError:  # masks can be scored without the photographs
        return np.full((size[1], size[0], 3), 128, np.uint8)


def label_uri(label: NDArray[np.uint8]) -> str:
    """A label as PNG in VOC colours: background transparent, ignored pixels white."""
    colour, opacity = palette(256), np.full(256, 255, np.uint8)
    opacity[0], opacity[IGNORE], colour[IGNORE] = 0, 150, 255
    return png_uri(label, colour, opacity)


def errors(truth: NDArray, label: NDArray) -> NDArray[np.uint8]:
    """Error of each pixel, (H, W): RIGHT, MISSED an object, INVENTED one, or SWAPPED."""
    error = np.full(truth.shape, SWAPPED, np.uint8)
    error[label == 0] = MISSED
    error[truth == 0] = INVENTED
    error[(truth == label) | (truth == IGNORE)] = RIGHT
    return error


def differences(truth: NDArray, first: NDArray, second: NDArray) -> NDArray[np.uint8]:
    """Where two labels differ, (H, W): 1 the first is right, 2 the second, 3 neither; else 0."""
    difference = np.full(truth.shape, 3, np.uint8)
    difference[first == truth] = 1
    difference[second == truth] = 2
    difference[(first == second) | (truth == IGNORE)] = 0
    return difference


def jpeg_uri(image: NDArray[np.uint8]) -> str:
    return data_uri(Image.fromarray(image), "JPEG", quality=78)


def data_uri(picture: Image.Image, form: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format=form, optimize=True, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def png_uri(index: NDArray[np.uint8], colour: NDArray[np.uint8], opacity: NDArray[np.uint8]) -> str:
    # Only the colours in use: a whole palette would outweigh most of these pictures.
    used, packed = np.unique(index, return_inverse=True)
    picture = Image.fromarray(packed.reshape(index.shape).astype(np.uint8), "P")
    picture.putpalette(colour[used].tobytes())
    return data_uri(picture, "PNG", transparency=opacity[used].tobytes())
