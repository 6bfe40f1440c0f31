"""Turn seeds into masks to learn from.

    python -m script.pseudo SEEDS --out DIR [flags]

Seeds are the score files of test.py: each tagged class over its maximum. With --affinity they first
walk within the boundaries of an affinity network. The background scores what they leave; then the
dense CRF decides, or nothing does.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

import densecrf
from base import IGNORE, UserError, entry
from base.recipe import Flat
from datalist.image import read_image
from datalist.spec import resolve
from refine import irn_labels, refine_labels
from script.shared import DataFlags, open_stage
from utils.distributed import choose_device
from utils.infer import cores, refine
from utils.output import is_whole, output_path, read_score, upsample, write_label
from utils.progress import progress


@dataclass(frozen=True)
class PseudoRecipe:
    """How scores become masks; sources are the released RecurSeed code and jiwoon-ahn/irn."""

    gamma: float = 2.0
    """The background scores (1 - the best class)^gamma (convert_seed_to_pseudo_masks.py)."""
    unsure: tuple[float, float] = (0.3, 0.05)
    """With --sure: constant background scores of labels that are sure of the foreground and of the
    background; a pixel is ignored that the first calls background and the second does not."""
    walked: float = 0.25
    """With --affinity: constant background score (IRN's sem_seg_bg_thres)."""
    crf: bool = True
    """Refine with the dense CRF."""
    preset: str = "deeplab"
    """Preset of the CRF, widths in pixels. With --sure it runs on labels, with IRN's widths."""
    crf_scale: float = 1.0
    """Divides the CRF's widths."""


RECIPES = {"paper": PseudoRecipe(), "small": PseudoRecipe(crf_scale=4.0)}
"""paper as published; small for small images."""


@dataclass(frozen=True)
class Flags:
    seeds: Annotated[Path, tyro.conf.Positional]
    """Folder that test.py wrote into, with score/ID.npz."""
    out: Path
    """Folder for label/ID.png; images whose files are whole are skipped."""
    data: Flat[DataFlags] = DataFlags("scenes")
    split: str = "train"
    """List of images."""
    sure: bool = False
    """Masks of sure pixels alone, for an affinity network to learn from."""
    affinity: Path | None = None
    """Checkpoint of train.py affinity: let the seeds walk first."""
    device: str = "auto"
    """Where that network runs: auto, cpu, cuda or cuda:N."""
    recipe: Flat[PseudoRecipe] = PseudoRecipe()
    quiet: bool = False
    """No progress bar."""


def masks(seed: np.ndarray, image: np.ndarray, flags: Flags) -> np.ndarray:
    """Class channels, 0 for background, of seeds; `IGNORE` where unsure.

    Args:
        seed: (k, H, W) in [0, 1].
        image: RGB uint8 (H, W, 3).

    Returns:
        (H, W), values 0 to k.

    Source: convert_seed_to_pseudo_masks.py of the released RecurSeed code; sure labels:
    step/cam_to_ir_label.py of jiwoon-ahn/irn.
    """
    recipe = flags.recipe
    best = seed.max(0, initial=0)
    if flags.sure:
        labels = [
            np.concatenate([np.full_like(best, threshold)[None], seed]).argmax(0)
            for threshold in recipe.unsure
        ]
        if recipe.crf:
            classes, scale = len(seed) + 1, recipe.crf_scale
            labels = [refine_labels(label, image, classes, scale=scale) for label in labels]
        return irn_labels(*labels)
    background = np.full_like(best, recipe.walked) if flags.affinity else (1 - best) ** recipe.gamma
    score = np.concatenate([background[None], seed])
    if recipe.crf and len(seed):
        score = refine(score, image, densecrf.preset(recipe.preset, scale=recipe.crf_scale))
    return score.argmax(0)


def convert(name: str, flags: Flags, spec, walk) -> None:
    """Write the mask of one image; `walk` is a stage that lets seeds walk, or None."""
    stored = read_score(flags.seeds / "score" / f"{name}.npz")
    image = read_image(spec.image_path(name))
    foreground = stored.keys > 0
    seed = stored.score[foreground].astype(np.float32) / 255
    if walk and len(seed):
        device = next(walk.network.parameters()).device
        pixels = torch.from_numpy(image).permute(2, 0, 1).to(device)
        seed = walk.walk(pixels, torch.from_numpy(seed)).cpu().numpy()
    channel = masks(upsample(seed, stored.size), image, flags)
    table = np.full(256, IGNORE, np.uint8)
    table[: foreground.sum() + 1] = [0, *stored.keys[foreground]]
    write_label(output_path(flags.out, "label", name), table[channel])


def load_affinity(flags: Flags):
    """The stage that `--affinity` names, on its device; None without.

    Errors: UserError for a checkpoint of another stage or of other classes.
    """
    if flags.affinity is None:
        return None
    stage = open_stage(flags.affinity, flags.data)
    if not hasattr(stage, "walk"):
        raise UserError(f"--affinity {flags.affinity}: train it with train.py affinity")
    stage.network.to(choose_device(flags.device))
    return stage


def main(flags: Flags) -> None:
    if flags.sure and flags.affinity:
        raise UserError("--sure masks are what the affinity network learns from: leave one out")
    if not (flags.seeds / "score").is_dir():
        raise UserError(f"{flags.seeds} has no folder score/: make it with test.py --save score")
    walk = load_affinity(flags)
    spec = resolve(flags.data.dataset, flags.data.root or None)
    names = [n for n in spec.ids(flags.split) if not is_whole(output_path(flags.out, "label", n))]
    missing = [n for n in names if not output_path(flags.seeds, "score", n).is_file()]
    if missing:
        raise UserError(
            f"{flags.seeds} has no scores of {len(missing)} images of {spec.name} {flags.split}, "
            f"the first is '{missing[0]}': finish test.py, or give the right --split"
        )
    bar = progress(len(names), "masks", " images", flags.quiet)
    with bar, ThreadPoolExecutor(cores()) as pool:
        for _ in pool.map(lambda name: convert(name, flags, spec, walk), names):
            bar.update()


@dataclass(frozen=True)
class Choice:
    """Which recipe the flags start from."""

    recipe: str = ""
    """Named values of the recipe's flags: paper or small; empty: paper for voc and coco, else
    small."""


def read_flags(words: list[str]) -> Flags:
    """Read the command line; the values of the chosen recipe are the defaults.

    Errors: UserError for a recipe that there is not.
    """
    unknown = {"return_unknown_args": True, "add_help": False}
    choice, rest = tyro.cli(Choice, args=words, **unknown)
    data, _ = tyro.cli(DataFlags, args=rest, **unknown)
    name = choice.recipe or ("paper" if data.dataset in ("voc", "coco") else "small")
    if name not in RECIPES:
        raise UserError(f"--recipe {name}: the recipes are {', '.join(RECIPES)}")
    text = f"{__doc__}\nThe defaults shown are those of the recipe {name}."
    default = Flags(tyro.MISSING, tyro.MISSING, recipe=RECIPES[name])
    config = (tyro.conf.FlagCreatePairsOff,)
    return tyro.cli(Flags, args=rest, default=default, description=text, config=config)


if __name__ == "__main__":
    with entry("script.pseudo"):
        main(read_flags(sys.argv[1:]))
