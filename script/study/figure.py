"""Redraw the README's pictures from a finished script/sec.sh (or quickstart.sh).

    python -m script.study.figure out/quickstart [--folder docs]

result.jpg: test images, predictions, truth. sec.jpg: how one training image becomes a mask, from
the tag's activation map over the cues to the network's scores and the CRF.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

import densecrf
from base import IGNORE, entry
from base.recipe import Flat
from base.tensor import resize
from datalist.cue import CueFile
from datalist.image import read_mask, read_shown
from datalist.spec import Spec
from datalist.tag import read_tags
from refine import refine_scores
from script.study.shared import DataFlags, open_stage
from script.study.sheet import heat, marked, sheet
from utils.output import blend, output_path, read_label, upsample


@dataclass(frozen=True)
class Flags:
    out: tyro.conf.Positional[Path]
    """Folder of the finished chain."""
    folder: Path = Path("docs")
    """Where the pictures go."""
    data: Flat[DataFlags] = DataFlags()
    columns: int = 6
    """Test images in result.jpg."""
    rows: int = 4
    """Training images in sec.jpg."""


def result(flags: Flags, spec: Spec) -> None:
    """The first test images with more than one class: one alone shows little."""
    masks = {name: read_mask(spec.mask_path(name)) for name in spec.ids("val")[: 8 * flags.columns]}
    several = [name for name, mask in masks.items() if len(set(np.unique(mask)) - {0, IGNORE}) > 1]
    columns = []
    for name in several[: flags.columns]:
        image = read_shown(spec.image_path(name), spec.bands)
        label = read_label(output_path(flags.out / "val", "label", name))
        columns.append([image, blend(image, label), blend(image, masks[name])])
    beside = ("test image", "prediction", "truth")
    sheet(flags.folder / "result.jpg", list(zip(*columns)), beside=beside)


def steps(flags: Flags, stages: dict[str, Any], name: str, tags: tuple[int, ...]) -> list:
    """Pictures of one training image: itself, CAM, saliency, cues, score, CRF, truth."""
    sec = stages["train"]
    spec, image = sec.spec, read_shown(sec.spec.image_path(name), sec.spec.bands)
    tag = torch.zeros(1, spec.num_classes - 1)
    tag[0, [index - 1 for index in tags]] = 1
    pixels = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float()
    foreground, background = (stages[f"cue/{ground}"] for ground in ("foreground", "background"))
    with torch.no_grad():
        cam = foreground.maps(resize(pixels, foreground.recipe.data.size))[0, tags[0] - 1]
        score = sec.predict([resize(pixels, sec.recipe.data.size)], None, False)[0]
    saliency = background.saliency(resize(pixels, background.recipe.data.size))[0]
    cue = CueFile.open(flags.out / "cue" / "cue.npz")[name]
    score = upsample(score.numpy(), image.shape[:2])
    prediction = sec.recipe.prediction
    crf = densecrf.preset(prediction.test_crf, scale=prediction.crf_scale(image.shape[:2]))
    refined = refine_scores(score, image, crf).argmax(0)
    truth = read_mask(spec.mask_path(name))
    return [
        image,
        heat(image, cam.numpy()),
        heat(image, saliency.numpy() / max(float(saliency.max()), 1e-12)),
        marked(image, np.where(cue.any(0), cue.argmax(0), IGNORE)),
        heat(image, score[tags[0]]),
        blend(image, refined),
        blend(image, truth),
    ]


def method(flags: Flags, stages: dict[str, Any]) -> None:
    """A row for each of the first training images, with its tags beside."""
    spec = stages["train"].spec
    names = spec.ids("train")[: flags.rows]
    tags = read_tags(spec, names)
    rows = [steps(flags, stages, name, tuple(tags[name])) for name in names]
    above = ("tagged image", "CAM, first tag", "saliency", "cues", "score, first tag")
    above += ("with CRF", "truth")
    beside = ["\n".join(spec.classes[index] for index in tags[name]) for name in names]
    sheet(flags.folder / "sec.jpg", rows, above, beside, size=(150, 160))


def main(flags: Flags) -> None:
    stages = {}
    for part in ("cue/foreground", "cue/background", "train"):
        path = flags.out / part / "last.pt"
        stages[part] = open_stage(path, flags.data)
    result(flags, stages["train"].spec)
    method(flags, stages)
    print(f"{flags.folder / 'result.jpg'}, {flags.folder / 'sec.jpg'}")


if __name__ == "__main__":
    with entry():
        main(tyro.cli(Flags, description=__doc__))
