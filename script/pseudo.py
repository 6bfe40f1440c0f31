"""Make masks to learn from of seeds: python -m script.pseudo SEEDS --out DIR [flags].

Seeds are the score files of test.py: each tagged class over its maximum. With --affinity they first
walk up to the boundaries that a network sees. Background scores and CRF are those of a recipe in
method/pseudo.py.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from base import IGNORE, UserError, entry
from datalist.image import read_image
from datalist.spec import Spec, resolve
from method.pseudo import PseudoRecipe, Purpose, choose_pseudo, mask_of
from method.restore import restore
from utils import checkpoint
from utils.distributed import choose_device
from utils.infer import cores
from utils.output import is_whole, output_path, read_score, upsample, write_label
from utils.progress import progress


@dataclass(frozen=True)
class Choice:
    """What the recipe's defaults depend on."""

    dataset: str = "scenes"
    recipe: str = ""
    purpose: Purpose = "masks"


@dataclass(frozen=True)
class Flags:
    """Where the seeds come from, and where the masks go."""

    seeds: Annotated[Path, tyro.conf.Positional]
    """Folder that test.py wrote into, with score/ID.npz."""
    out: Path
    """Folder for label/ID.png; images whose files are whole are skipped."""
    dataset: str = "scenes"
    """scenes, voc, coco, or a folder in VOC layout."""
    root: Path | None = None
    """Where voc, coco or scenes lies, if not in its default place."""
    split: str = "train"
    """List of images."""
    recipe: str = ""
    """paper, small, photo or smoke; empty: the one that suits the data set."""
    purpose: Purpose = "masks"
    """masks of every pixel; sure, with unsure pixels 255; walked, of seeds after a walk."""
    affinity: Path | None = None
    """With --purpose walked: checkpoint of train.py affinity."""
    device: str = "auto"
    """Where that network runs: auto, cpu, cuda or cuda:N."""
    quiet: bool = False
    """No progress bar."""


def convert(image_id: str, flags: Flags, recipe: PseudoRecipe, spec: Spec, affinity: Any) -> None:
    """Write the mask of one image; `affinity` is the stage that lets seeds walk, or None."""
    stored = read_score(flags.seeds / "score" / f"{image_id}.npz")
    image = read_image(spec.image_path(image_id))
    foreground = stored.keys > 0
    seed = stored.score[foreground].astype(np.float32) / 255
    if affinity and len(seed):
        pixels = torch.from_numpy(image).permute(2, 0, 1).to(choose_device(flags.device))
        seed = affinity.walk(pixels, torch.from_numpy(seed)).cpu().numpy()
    mask = mask_of(upsample(seed, stored.size), image, recipe)
    classes = np.full(256, IGNORE, np.uint8)
    classes[: foreground.sum() + 1] = [0, *stored.keys[foreground]]
    write_label(output_path(flags.out, "label", image_id), classes[mask])


def load_affinity(flags: Flags) -> Any:
    """The stage that `--affinity` names, on its device; None without.

    Errors: UserError for a checkpoint of another stage or of other classes.
    """
    if flags.affinity is None:
        return None
    content = checkpoint.load(flags.affinity)
    if content["stage"] != "affinity":
        raise UserError(f"--affinity {flags.affinity}: train it with train.py affinity")
    stage = restore(flags.affinity, content, flags.dataset, str(flags.root or ""))
    stage.network.to(choose_device(flags.device)).eval()
    return stage


def main(words: list[str] | None = None) -> None:
    flat = tyro.conf.arg(name="")
    config = (tyro.conf.FlagCreatePairsOff,)
    choice, _ = tyro.cli(Choice, args=words, return_unknown_args=True, add_help=False)
    start = choose_pseudo(choice.recipe, choice.purpose, choice.dataset)

    def command(
        flags: Annotated[Flags, flat], recipe: Annotated[PseudoRecipe, flat] = start
    ) -> tuple[Flags, PseudoRecipe]:
        return flags, recipe

    flags, recipe = tyro.cli(command, args=words, config=config, description=__doc__)
    if not (flags.seeds / "score").is_dir():
        raise UserError(f"{flags.seeds} has no folder score/: make it with test.py --save score")
    if (flags.purpose == "walked") != (flags.affinity is not None):
        raise UserError("--purpose walked goes with --affinity CHECKPOINT")
    affinity = load_affinity(flags)
    spec = resolve(flags.dataset, flags.root)
    image_ids = [
        i for i in spec.ids(flags.split) if not is_whole(output_path(flags.out, "label", i))
    ]
    lost = [i for i in image_ids if not output_path(flags.seeds, "score", i).is_file()]
    if lost:
        raise UserError(
            f"{flags.seeds} has no scores of {len(lost)} images of {spec.name} {flags.split}, the "
            f"first is '{lost[0]}': finish test.py, or give the right --split"
        )
    bar = progress(len(image_ids), "masks", " images", flags.quiet)
    with bar, ThreadPoolExecutor(cores()) as pool:
        jobs = [pool.submit(convert, i, flags, recipe, spec, affinity) for i in image_ids]
        for job in jobs:
            job.result()
            bar.update()


if __name__ == "__main__":
    with entry("pseudo"):
        main()
