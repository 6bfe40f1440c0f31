"""Sheets of pictures for the README: rows of one size with titles above and beside."""

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from PIL import Image

from base import IGNORE
from base.file import replacing
from utils.output import blend


def sheet(
    path: Path,
    rows: Sequence[Sequence[NDArray[np.uint8]]],
    above: Sequence[str] = (),
    beside: Sequence[str] = (),
    size: tuple[int, int] = (200, 220),
) -> None:
    """Write pictures side by side, as JPEG or PNG by the name of the file.

    Args:
        rows: RGB pictures of any size, (H, W, 3), as many in each row.
        above, beside: titles of the columns and rows; none if empty.
        size: height and width of each picture on the sheet, pixels.
    """
    height, width = size
    figure, axes = plt.subplots(
        len(rows), len(rows[0]), squeeze=False, dpi=110,
        figsize=(len(rows[0]) * width / 110 + 0.3, len(rows) * height / 110 + 0.3),
    )  # fmt: skip
    for line, row in zip(axes, rows):
        for axis, picture in zip(line, row):
            small = picture.shape[0] < height
            how = cv2.INTER_CUBIC if small else cv2.INTER_AREA
            axis.imshow(cv2.resize(picture, (width, height), interpolation=how))
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_color("lightgrey")
    for axis, title in zip(axes[0], above):
        axis.set_title(title, fontsize=9)
    for line, title in zip(axes, beside):
        line[0].set_ylabel(title, fontsize=9)
    figure.tight_layout(pad=0.4)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    with replacing(path) as draft:
        kind = "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG"
        Image.open(buffer).convert("RGB").save(draft, kind, quality=88, optimize=True)


def heat(image: NDArray[np.uint8], score: NDArray) -> NDArray[np.uint8]:
    """Lay a map in [0, 1], (h, w), over an RGB image in [0, 255], (H, W, 3), cold to hot."""
    large = cv2.resize(score.astype(np.float32), image.shape[1::-1])
    colour = matplotlib.colormaps["turbo"](large.clip(0, 1))[..., :3] * 255
    return np.rint(0.35 * image + 0.65 * colour).astype(np.uint8)


def marked(image: NDArray[np.uint8], label: NDArray) -> NDArray[np.uint8]:
    """Lay places of classes over an RGB image in [0, 255], (H, W, 3), that is faded elsewhere.

    `label`: class indices, 255 = none, (h, w); brought to the image's size.
    """
    label = cv2.resize(label.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    faded = (image * 0.35 + 160).astype(np.uint8)
    # Background cues show the image; every other place is faded or coloured.
    return np.where((label == IGNORE)[..., None], faded, blend(image, label, 0.85))
