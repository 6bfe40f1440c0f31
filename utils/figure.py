"""Redraw the README's figure of SEC from a finished chain (python -m utils.figure OUT)."""

import argparse
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import cv2
import numpy as np
from matplotlib import pyplot as plt

from datalist import DataError
from datalist.cue import CueFile
from datalist.image import read_image, read_mask
from datalist.spec import IGNORE, Spec, resolve
from datalist.tag import read_tags
from utils.output import blend, output_path, read_label


def cue_map(cue: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Class index of each cue cell, 255 elsewhere: bool (C, h, w) to uint8 `size`."""
    label = np.where(cue.any(0), cue.argmax(0), IGNORE).astype(np.uint8)
    return cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST)


def training(spec: Spec, cues: CueFile, ids: list[str]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """For each image its tags as a title, the image, and its cues laid over it."""
    tags = read_tags(spec, ids)
    shown = []
    for name in ids:
        image = read_image(spec.image_path(name))
        title = ", ".join(spec.classes[index] for index in tags[name])
        label = cue_map(cues[name], image.shape[:2])
        faded = (image * 0.35 + 160).astype(np.uint8)
        marked = np.where((label == IGNORE)[..., None], faded, blend(image, label, 0.85))
        shown.append((title, image, marked))
    return shown


def draw(out: Path, spec: Spec, path: Path, columns: int) -> None:
    """Write the figure: tagged images and their cues; test images, predictions and truth.

    Args:
        out: folder of the chain: cue/cue.npz and val/label.
        spec: its data set.
        path: picture to write.
        columns: images a row.
    """
    cues = CueFile.open(out / "cue" / "cue.npz")
    seen = training(spec, cues, spec.ids("train")[:columns])
    # The first test images with more than one class: one alone shows little.
    masks = {name: read_mask(spec.mask_path(name)) for name in spec.ids("val")[: 8 * columns]}
    several = [name for name, mask in masks.items() if len(set(np.unique(mask)) - {0, IGNORE}) > 1]
    rows = ["tagged image", "cues", "test image", "prediction", "truth"]
    figure, axes = plt.subplots(len(rows), columns, figsize=(1.5 * columns + 0.4, 8.2))
    for column in range(columns):
        title, image, marked = seen[column]
        name = several[column]
        test = read_image(spec.image_path(name))
        label = read_label(output_path(out / "val", "label", name))
        shown = [image, marked, test, blend(test, label), blend(test, masks[name])]
        for row, picture in enumerate(shown):
            axis = axes[row, column]
            axis.imshow(cv2.resize(picture, (220, 200), interpolation=cv2.INTER_CUBIC))
            axis.set(xticks=[], yticks=[])
            if column == 0:
                axis.set_ylabel(rows[row], fontsize=9)
        axes[0, column].set_title(title, fontsize=8)
    figure.tight_layout(pad=0.4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m utils.figure", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of a finished script/sec.sh")
    parser.add_argument("--dataset", default="scenes", help="its data set")
    parser.add_argument("--root", default=None, help="where voc, coco or scenes lies")
    parser.add_argument("--path", type=Path, default=Path("docs/sec.png"), help="picture to write")
    parser.add_argument("--columns", type=int, default=6, help="images a row")
    flags = parser.parse_args()
    try:
        draw(flags.out, resolve(flags.dataset, flags.root), flags.path, flags.columns)
    except DataError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
