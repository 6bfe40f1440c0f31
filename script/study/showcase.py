"""Draw photographs that nobody tagged, and below them what a network predicts.

    pip install scikit-image
    python -m script.study.showcase CHECKPOINT [--out docs/photos.jpg]

The photographs are samples of scikit-image: chelsea (Stefan van der Walt, CC0), coffee (Rachel
Michetti, CC0), rocket (SpaceX) and astronaut (NASA), both public domain.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import tyro

from base import UserError, entry
from datalist.dataset import Photos
from method.restore import restore
from script.study.sheet import sheet
from utils import checkpoint
from utils.distributed import choose_device
from utils.flags import Predict
from utils.infer import predict_split
from utils.machine import cores
from utils.output import blend, output_path, read_label

SAMPLES = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png")


@dataclass(frozen=True)
class Flags:
    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Network that segments, last.pt of train.py."""
    out: Path = Path("docs/photos.jpg")
    """Picture to write."""
    image: tuple[Path, ...] = ()
    """Photographs; empty: the samples of scikit-image."""
    aspect: float = 1.5
    """Width over height on the sheet; photographs are cut at the right or at the bottom."""
    height: int = 200
    """Height of each photograph on the sheet, pixels."""


def samples() -> tuple[Path, ...]:
    """Files of scikit-image's sample photographs."""
    try:
        from skimage import data
    except ImportError:
        raise UserError("pip install scikit-image, or give photographs with --image") from None
    return tuple(Path(data.__file__).parent / name for name in SAMPLES)


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
            columns.append([cut(image, flags.aspect), cut(blend(image, label), flags.aspect)])
            count = np.bincount(label.ravel(), minlength=stage.num_classes)[1:]
            shown = [i for i in np.argsort(-count) if count[i] > label.size / 100]
            titles.append(", ".join(stage.spec.classes[1 + i] for i in shown) or "background")
    size = (flags.height, round(flags.height * flags.aspect))
    sheet(flags.out, list(zip(*columns)), above=titles, size=size)
    print(flags.out)


if __name__ == "__main__":
    with entry():
        main(tyro.cli(Flags, description=__doc__))
