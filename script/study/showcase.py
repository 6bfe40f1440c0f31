"""Draw photographs that nobody tagged, and below them what a network predicts.

    pip install scikit-image scikit-learn
    python -m script.study.showcase CHECKPOINT [--out docs/photos.jpg]

The photographs are samples of scikit-image: chelsea (Stefan van der Walt, CC0), astronaut (NASA,
public domain) and camera (Lav Varshney, CC0); and one of scikit-learn: flower (vultilion, CC BY
2.0).
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import cv2
import numpy as np
import tyro

from base import UserError, entry
from datalist.dataset import Photos
from datalist.palette import palette
from method.restore import restore
from script.study.sheet import sheet
from utils import checkpoint
from utils.distributed import choose_device
from utils.flags import Predict
from utils.infer import predict_split
from utils.machine import cores
from utils.output import blend, output_path, read_label

SAMPLES = {
    "skimage": ("data/chelsea.png", "data/astronaut.png", "data/camera.png"),
    "sklearn": ("datasets/images/flower.jpg",),
}
"""Files of packages."""


@dataclass(frozen=True)
class Flags:
    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Network that segments, last.pt of train.py."""
    out: Path = Path("docs/photos.jpg")
    """Picture to write."""
    image: tuple[Path, ...] = ()
    """Photographs; empty: the samples."""
    aspect: float = 1.5
    """Width over height on the sheet; photographs are cut at the right or at the bottom."""
    height: int = 200
    """Height of each photograph on the sheet, pixels."""


def samples() -> tuple[Path, ...]:
    """Files of the sample photographs."""
    paths = []
    for package, names in SAMPLES.items():
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            raise UserError(
                "pip install scikit-image scikit-learn, or give photographs with --image"
            )
        paths += [Path(found.origin).parent / name for name in names]
    return tuple(paths)


def outlined(image: np.ndarray, label: np.ndarray) -> np.ndarray:
    """An image with the colours of the classes over it, and an outline around each region."""
    drawn = np.ascontiguousarray(blend(image, label, 0.45))
    colours = palette(256)
    for index in set(np.unique(label)) - {0}:
        mask = (label == index).view(np.uint8)
        lines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        width = max(1, max(label.shape) // 200)
        cv2.drawContours(drawn, lines, -1, (255, 255, 255), 3 * width, cv2.LINE_AA)
        cv2.drawContours(drawn, lines, -1, colours[index].tolist(), width, cv2.LINE_AA)
    return drawn


def cut(picture: np.ndarray, aspect: float) -> np.ndarray:
    """The upper left part of a picture (H, W, ...) with that width over height."""
    height, width = picture.shape[:2]
    return picture[: min(height, round(width / aspect)), : min(width, round(height * aspect))]


def main(flags: Flags) -> None:
    stage = restore(flags.checkpoint, checkpoint.load(flags.checkpoint), photos=True)
    paths = flags.image or samples()
    photos = Photos(paths)
    columns, titles = [], []
    with TemporaryDirectory() as folder:
        predict = Predict(Path(folder), image=paths, longest=0, crf=True, quiet=True)
        errors = predict_split(stage, predict, choose_device("auto"), cores())
        if errors:
            raise UserError("; ".join(errors))
        for index, name in enumerate(photos.ids):
            image = photos[index]["image"].permute(1, 2, 0).numpy()
            label = read_label(output_path(predict.out, "label", name))
            columns.append([cut(image, flags.aspect), cut(outlined(image, label), flags.aspect)])
            count = np.bincount(label.ravel(), minlength=stage.num_classes)[1:]
            shown = [i for i in np.argsort(-count) if count[i] > label.size / 100]
            titles.append(", ".join(stage.spec.classes[1 + i] for i in shown) or "background")
    size = (flags.height, round(flags.height * flags.aspect))
    sheet(flags.out, list(zip(*columns)), above=titles, size=size)
    print(flags.out)


if __name__ == "__main__":
    with entry():
        main(tyro.cli(Flags, description=__doc__))
