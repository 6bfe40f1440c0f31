"""Make masks to learn from of seeds: python pseudo.py SEEDS --out DIR [flags].

Seeds are the score files of test.py: each tagged class over its maximum. With --affinity they first
walk up to the boundaries that a network sees. Background scores and CRF are those of a recipe in
method/pseudo.py.
"""

# First, so that Ctrl-C during the other imports ends in one line.
from base import IGNORE, UserError, entry

# isort: split
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import tyro

from datalist.image import read_image
from datalist.spec import Spec, resolve
from method.choose import choose_pseudo
from method.pseudo import PseudoRecipe, Purpose, mask_of
from method.restore import restore
from utils import checkpoint, inputs
from utils.distributed import choose_device
from utils.infer import MemoryBudget, cores, machine_memory, memory_of, shrink
from utils.output import is_whole, output_path, read_score, upsample, write_label
from utils.progress import in_threads
from utils.record import command_line, keep_record


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
    """masks of every pixel; sure, with unsure pixels 255; walked, of seeds after a walk; scored, of
    scores with their own background, as the segmenter of locate gives them."""
    affinity: Path | None = None
    """With --purpose walked: checkpoint of train.py affinity."""
    fresh: bool = False
    """Where `out` holds masks of other seeds or settings, move them to OUT/old-N and write them
    again; otherwise they are refused."""
    device: str = "auto"
    """Where that network runs: auto, cpu, cuda or cuda:N."""
    work_pixels: int = 2_000_000
    """Pixels; larger images are shrunk to this size for the walk and the CRF. Masks have the
    image's own size."""
    memory: float = 0.0
    """GiB that the images in work take together; 0: half of the machine's."""
    quiet: bool = False
    """No progress bar."""


def convert(
    image_id: str,
    flags: Flags,
    recipe: PseudoRecipe,
    spec: Spec,
    affinity: Any,
    budget: MemoryBudget,
) -> None:
    """Write the mask of one image; `affinity` is the stage that lets seeds walk, or None."""
    stored = read_score(flags.seeds / "score" / f"{image_id}.npz")
    image = torch.from_numpy(read_image(spec.image_path(image_id), spec.bands)).permute(2, 0, 1)
    image = shrink({"image": image}, flags.work_pixels)["image"]
    foreground = stored.keys > 0
    seed = stored.score[foreground].astype(np.float32) / 255
    if affinity and len(seed):
        pixels = image.to(choose_device(flags.device))
        seed = affinity.walk(pixels, torch.from_numpy(seed)).cpu().numpy()
    size = tuple(image.shape[-2:])
    background = None
    with budget.take(memory_of(*size, len(seed) + 1)):
        pixels = image[:3].permute(1, 2, 0).contiguous().numpy()
        if recipe.background_factor and not foreground.all():
            background = upsample(stored.score[~foreground].astype(np.float32) / 255, size)[0]
        mask = mask_of(upsample(seed, size), pixels, recipe, background)
    classes = np.full(256, IGNORE, np.uint8)
    classes[: foreground.sum() + 1] = [0, *stored.keys[foreground]]
    label = classes[mask]
    if label.shape != stored.size:
        label = cv2.resize(label, stored.size[::-1], interpolation=cv2.INTER_NEAREST)
    write_label(output_path(flags.out, "label", image_id), label)


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


def keep_settings(flags: Flags, recipe: PseudoRecipe, image_ids: list[str]) -> None:
    """Write the settings and checksums behind the masks to OUT/pseudo.json.

    Errors: UserError where the folder holds masks of others, without --fresh.
    """
    seeds = inputs.folder_checksums(flags.seeds / "score", image_ids, ".npz")
    settings = {**asdict(recipe), "purpose": flags.purpose, "seeds": inputs.total(seeds)}
    settings["work_pixels"] = flags.work_pixels
    if flags.affinity:
        settings["affinity"] = f"{inputs.file_checksum(flags.affinity):08x}"
    more = {"command": command_line(), "seeds": str(flags.seeds)}
    keep_record(flags.out / "pseudo.json", settings, flags.fresh, more)


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
    image_ids = spec.ids(flags.split)
    lost = [i for i in image_ids if not output_path(flags.seeds, "score", i).is_file()]
    if lost:
        raise UserError(
            f"{flags.seeds} has no scores of {len(lost)} images of {spec.name} {flags.split}, the "
            f"first is '{lost[0]}': finish test.py, or give the right --split"
        )
    keep_settings(flags, recipe, image_ids)
    image_ids = [i for i in image_ids if not is_whole(output_path(flags.out, "label", i))]
    budget = MemoryBudget(flags.memory * 2**30 or machine_memory() / 2)
    options = {"flags": flags, "recipe": recipe, "spec": spec, "affinity": affinity}
    write = partial(convert, **options, budget=budget)
    for _ in in_threads(write, image_ids, cores(), "masks", flags.quiet):
        pass


if __name__ == "__main__":
    with entry("pseudo"):
        main()
