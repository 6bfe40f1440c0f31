"""Draw image | CAM | pass 1 | pass 3 | truth from a run of script/study/locate_ablation.sh.

python -m script.study.locate_figure RUN [--out PICTURE]
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from base import entry
from base.recipe import Flat
from datalist.image import read_shown
from datalist.palette import palette
from datalist.spec import Spec, resolve
from script.study.shared import DataFlags
from script.study.sheet import sheet
from utils import checkpoint
from utils.measure import read_truth
from utils.output import blend, output_path, read_label, read_score, upsample

TITLES = ("image", "CAM", "pass 1", "pass 3", "truth")


@dataclass(frozen=True)
class Flags:
    run: Annotated[Path, tyro.conf.Positional]
    """Folder of one seed: cam/score, pseudo/label and pass3/label lie in it."""
    out: Path = Path("docs/locate.png")
    """Picture to write."""
    data: Flat[DataFlags] = DataFlags()
    rows: int = 5
    """Images to show: the first of the training list with more than one class."""


def strongest_maps(image: np.ndarray, path: Path) -> np.ndarray:
    """Lay the strongest map of each pixel over an image in its class's colour, as it is strong.

    Images are RGB uint8 (H, W, 3); `path` is a score file of maps without background.
    """
    stored = read_score(path)
    if not len(stored.keys):
        return image
    score = upsample(stored.score, stored.size) / 255
    strongest = stored.keys[score.argmax(0)]
    weight = 0.8 * score.max(0)[..., None]
    mixed = image * (1 - weight) + palette(256)[strongest] * weight
    return np.rint(mixed).astype(np.uint8)


def panels(run: Path, spec: Spec, name: str) -> list[np.ndarray]:
    """The five pictures of one image."""
    image = read_shown(spec.image_path(name), spec.bands)
    first, last = (
        blend(image, read_label(output_path(run / folder, "label", name)))
        for folder in ("pseudo", "pass3")
    )
    cam = strongest_maps(image, output_path(run / "cam", "score", name))
    return [image, cam, first, last, blend(image, read_truth(spec, name))]


def draw(flags: Flags) -> None:
    """Write the figure."""
    dataset, root = flags.data.dataset, flags.data.root
    if not dataset:
        data = checkpoint.load(flags.run / "cam/last.pt")["recipe"]["data"]
        dataset, root = data["dataset"], data["root"]
    spec = resolve(dataset, root or None)
    chosen = []
    for name in spec.ids("train"):
        keys = read_score(output_path(flags.run / "cam", "score", name)).keys
        if len(keys) > 1:
            chosen.append(name)
        if len(chosen) == flags.rows:
            break
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    sheet(flags.out, [panels(flags.run, spec, name) for name in chosen], above=TITLES)


if __name__ == "__main__":
    with entry():
        draw(tyro.cli(Flags, description=__doc__))
