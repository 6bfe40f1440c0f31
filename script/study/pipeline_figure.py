"""Draw images through every map of RecurSeed and EdgePredictMix, with a checkpoint of train.py
rsepm:

    python -m script.study.pipeline_figure CHECKPOINT --out PICTURE [--id ID ID ...]

Columns: image, activation map of the strongest class, the map after self-correlation, after PAMR,
the labels that the certain filter keeps, the decoder's own labels by the edge rule, the image with
the objects of the one above pasted in, and the labels of that mixture. White is left out.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import torch
import tyro

from base import IGNORE, UserError, entry
from base.recipe import Flat
from base.tensor import resize
from datalist.palette import palette
from method.rsepm import RecurSeed, inside_box
from refine import paste
from script.study.shared import DataFlags, open_stage
from script.study.sheet import sheet

TITLES = (
    "image", "activation", "self-correlation", "PAMR", "certain filter", "edge labels", "mixed",
    "mixed labels", "truth",
)  # fmt: skip


@dataclass(frozen=True)
class Flags:
    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Checkpoint of train.py rsepm."""
    out: Path
    """Picture to write."""
    id: tuple[str, ...] = ()
    """Training images, two at least; default: the first four."""
    data: Flat[DataFlags] = DataFlags()


def colour(label: np.ndarray) -> np.ndarray:
    """RGB of class indices in VOC's colours; `IGNORE` white."""
    table = palette(256).copy()
    table[IGNORE] = 255
    return table[label]


def magma(score: np.ndarray) -> np.ndarray:
    """RGB of a map in [0, 1], dark to light."""
    return np.rint(matplotlib.colormaps["magma"](score.clip(0, 1))[..., :3] * 255).astype(np.uint8)


@torch.no_grad()
def rows(stage: RecurSeed, names: tuple[str, ...]) -> list[list[np.ndarray]]:
    """The pictures of each image, in the order of `TITLES`."""
    data = stage.images(mask=stage.spec.mask_folder)
    samples = [data[data.ids.index(name)] for name in names]
    batch = {k: torch.stack([s[k] for s in samples]) for k in ("image", "tag", "mask")}
    if "box" in samples[0]:
        batch["box"] = torch.stack([s["box"] for s in samples])
    image, tag = batch["image"], batch["tag"]
    size = image.shape[-2:]
    inside = inside_box(batch, size)
    maps, logit, *features = stage.network(image)
    refined = stage.recurse(image.float(), tag, inside, maps, features)
    sure = stage.certain(refined["refined"], tag, inside)
    own, region = stage.own_labels(image.float(), logit, tag, inside)
    mixed, labels = (paste(x, x.roll(1, 0), region) for x in (image, own))
    lines = []
    for k in range(len(names)):
        shown = int(refined["refined"][k].sum(dim=(1, 2)).argmax())
        scores = [
            magma(resize(refined[name][k : k + 1], size)[0, shown].numpy())
            for name in ("cam", "correlated", "refined")
        ]
        lines.append(
            [
                image[k].permute(1, 2, 0).numpy(),
                *scores,
                colour(sure[k].numpy()),
                colour(own[k].numpy()),
                mixed[k].permute(1, 2, 0).numpy(),
                colour(labels[k].numpy()),
                colour(batch["mask"][k].numpy()),
            ]
        )
    return lines


def main(flags: Flags) -> None:
    stage = open_stage(flags.checkpoint, flags.data)
    if not isinstance(stage, RecurSeed):
        raise UserError(f"{flags.checkpoint} is not a checkpoint of train.py rsepm")
    known = stage.spec.ids(stage.recipe.data.split)
    names = flags.id or tuple(known[:4])
    missing = [name for name in names if name not in known]
    if missing or len(names) < 2:
        raise UserError(
            f"--id needs two or more images of {stage.spec.name} {stage.recipe.data.split}"
            + (f"; '{missing[0]}' is none" if missing else "")
        )
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    sheet(flags.out, rows(stage, names), above=TITLES, size=(130, 150))


if __name__ == "__main__":
    with entry():
        main(tyro.cli(Flags, description=__doc__))
