"""Questions to a person about the maps of classes: python -m script.questions CHECKPOINT SEEDS.

Cells of a class's maps that look alike, by the features of the classifier that made the maps, form
groups. Where the sure masks use contrast, regions of map x contrast do, by how their colour differs
from what surrounds them. The page shows each group that matters, lit in the same few photographs,
and asks whether it is the object; answers.csv, which the page saves, goes to pseudo.py --answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import tyro

from base import WORK_PIXELS, UserError, entry
from base.tensor import resize
from datalist.answer import NONE, GroupFile
from datalist.dataset import Images
from datalist.spec import Spec, resolve
from method.contrast import PIXELS, Contrast, contrast_scores
from method.restore import restore
from refine.group import group_cells, region_colours
from utils import checkpoint, checksum
from utils.distributed import choose_device
from utils.flags import DatasetFlags
from utils.infer import limit_pixels
from utils.output import output_path, read_score, upsample
from utils.progress import progress
from utils.record import read_record
from utils.report import questions

GROUPS, REGION_GROUPS = 8, 5
"""Groups of cells of each class, and of regions where contrast is used (ours)."""
LEAST = 0.38
"""Share of a map's maximum from which on a cell has a group: there it exceeds the background score
(1 - map)^2. Other pixels belong to the nearest group. Groups of all cells from 0.05 on are mostly
surroundings, so that those of small things were rejected (docs/results.md)."""


@dataclass(frozen=True)
class Flags(DatasetFlags):
    """Where the maps come from, and where the page goes."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Classifier of train.py cam."""
    seeds: Annotated[Path, tyro.conf.Positional]
    """Folder of its maps, with score/ID.npz; groups.npz is written beside."""
    page: Path
    """HTML file of the questions."""
    masks: Path | None = None
    """Folder of the sure masks of pseudo.py, which chose whether contrast is used."""
    split: str = "train"
    """List of images."""
    command: str = ""
    """Command that the page shows for afterwards; {} stands for the file of answers."""
    device: str = "auto"
    """Where the network runs: auto, cpu, cuda or cuda:N."""
    quiet: bool = False
    """No progress bar."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells, or pixels, of one class in one image."""

    high: np.ndarray
    """Where the class is likely enough, bool (h, w)."""
    value: np.ndarray
    """The map there in [0, 1], (n,)."""
    feature: np.ndarray
    """Features there, (n, d)."""


@torch.inference_mode()
def read_cells(stage: Any, seeds: Path, sample: dict, device: torch.device) -> dict[int, Cells]:
    """Cells of the classes of an image, by class index."""
    image = sample["image"][None].to(device).float()
    size = stage.recipe.data.input_size(tuple(image.shape[-2:]))
    feature = stage.network.normalised(stage.features(resize(image, size)))
    # Groups are about directions.
    feature = torch.nn.functional.normalize(feature[0].float(), dim=0).half().cpu().numpy()
    keys, scores = read_foreground(seeds, sample)
    grid = feature.shape[:0:-1]
    how = cv2.INTER_AREA if scores.shape[2] > grid[0] else cv2.INTER_LINEAR
    cells = {}
    for index, score in zip(keys, scores):
        value = cv2.resize(score, grid, interpolation=how)
        high = value >= LEAST
        if high.any():
            cells[index] = Cells(high, value[high], feature[:, high].T)
    return cells


def read_foreground(seeds: Path, sample: dict) -> tuple[list[int], np.ndarray]:
    """Foreground classes of an image, and their maps in [0, 1], float32 (k, h, w)."""
    stored = read_score(output_path(seeds, "score", sample["id"]))
    return stored.keys[stored.keys > 0].tolist(), stored.score[stored.keys > 0] / np.float32(255)


def read_regions(seeds: Path, sample: dict, contrast: Contrast) -> dict[int, Cells]:
    """Pixels of the classes of an image, by class index, where map x contrast is high."""
    image = sample["image"][:3].permute(1, 2, 0).numpy()
    keys, seed = read_foreground(seeds, sample)
    seed = upsample(seed, image.shape[:2])
    score = contrast_scores(seed, image, keys, contrast)
    cells = {}
    for row, index in enumerate(keys):
        high = (score.argmax(0) == row) & (score[row] > 1)
        if high.any():
            cells[index] = Cells(high, seed[row][high], region_colours(image, high))
    return cells


def read_contrast(masks: Path | None, classes: Sequence[str]) -> Contrast | None:
    """The contrast that pseudo.py used for its masks, if it did."""
    settings = read_record(masks / "pseudo.json").get("settings", {}) if masks else {}
    chosen = settings.get("contrast_chosen", {})
    if not chosen.get("used"):
        return None
    measures = {classes.index(name): tuple(names) for name, names in chosen["measures"].items()}
    return Contrast(measures, used=True)


def group_classes(path: Path, spec: Spec, cells: dict, source: str, contrast: bool) -> GroupFile:
    """Group the cells of each class over all images, and each group into two halves."""
    codes = {}
    for index in range(1, spec.num_classes):
        members = {name: own[index] for name, own in cells.items() if index in own}
        if not members:
            continue
        feature = np.concatenate([item.feature for item in members.values()])
        code = 2 * group_cells(feature, REGION_GROUPS if contrast else GROUPS)
        for group in np.unique(code):
            inside = code == group
            code[inside] += group_cells(feature[inside], 2)
        ends = np.cumsum([len(item.value) for item in members.values()])
        for (name, item), part in zip(members.items(), np.split(code, ends[:-1])):
            codes[name, index] = np.full(item.high.shape, NONE, np.uint8)
            codes[name, index][item.high] = part
    return GroupFile(path, spec.classes, codes, source, contrast=contrast)


def main(flags: Flags) -> None:
    spec = resolve(flags.dataset, flags.root)
    content = checkpoint.load(flags.checkpoint)
    stage = restore(flags.checkpoint, content, flags.dataset, str(flags.root or ""))
    if not hasattr(stage, "features"):
        raise UserError(f"{flags.checkpoint}: questions need a classifier of train.py cam")
    device = choose_device(flags.device)
    stage.network.to(device).eval()
    data = Images(spec, flags.split, tag=True)
    tagged = {name: row for row, name in enumerate(data.ids) if data.tags[name]}
    lost = [name for name in tagged if not output_path(flags.seeds, "score", name).is_file()]
    if lost:
        raise UserError(
            f"{flags.seeds} has no maps of {len(lost)} images, the first is '{lost[0]}': finish "
            "test.py --save score, or give the right --split"
        )
    groups = flags.seeds / "groups.npz"
    source = checksum.total(checksum.folder_checksums(flags.seeds / "score", tagged, ".npz"))
    source += f"{checksum.file_checksum(flags.checkpoint):08x}"
    contrast = read_contrast(flags.masks, spec.classes)
    old = GroupFile.read(groups) if flags.page.is_file() and groups.is_file() else None
    if old and (old.source, old.contrast) == (source, contrast is not None):
        print(f"{flags.page} holds the questions about these maps")
        return
    cells = {}
    with progress(len(tagged), "groups", " images", flags.quiet) as bar:
        for name, row in tagged.items():
            sample = limit_pixels(data[row], PIXELS if contrast else WORK_PIXELS)
            if contrast:
                cells[name] = read_regions(flags.seeds, sample, contrast)
            else:
                cells[name] = read_cells(stage, flags.seeds, sample, device)
            bar.update()
    grouped = group_classes(groups, spec, cells, source, contrast is not None)
    values = {(name, k): item.value for name, own in cells.items() for k, item in own.items()}
    asked = questions.choose(grouped, values)
    pairs = [(index, group + 1) for index, numbers in asked.items() for group in numbers]
    replace(grouped, asked=pairs).write()
    size = questions.write(flags.page, spec, grouped, asked, flags.command)
    count = len(pairs) + len(asked)
    print(f"{flags.page} ({size / 1e6:.1f} MB): {count} questions about {len(asked)} classes")


if __name__ == "__main__":
    with entry():
        main(tyro.cli(Flags, description=__doc__))
