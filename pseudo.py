#!/usr/bin/env python
"""Make masks to learn from of seeds: python pseudo.py SEEDS --out DIR [flags].

Seeds are the score files of test.py: each tagged class over its maximum. With --affinity they first
walk up to the boundaries that a network sees. Background scores and CRF are those of a recipe in
method/pseudo.py.
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from base import UserError, entry


@dataclass(frozen=True)
class Choice:
    """What the recipe's defaults depend on."""

    dataset: str = "scenes"
    recipe: str = ""
    purpose: str = "masks"


def read_flags(words: list[str] | None) -> tuple[Any, Any]:
    """Flags and recipe of the command line."""
    import tyro

    from method.choose import choose_pseudo
    from method.pseudo import PseudoRecipe
    from utils.flags import Pseudo

    choice, _ = tyro.cli(Choice, args=words, return_unknown_args=True, add_help=False)
    start = choose_pseudo(choice.recipe, choice.purpose, choice.dataset)
    flat = tyro.conf.arg(name="")

    def command(
        flags: Annotated[Pseudo, flat], recipe: Annotated[PseudoRecipe, flat] = start
    ) -> tuple[Pseudo, PseudoRecipe]:
        return flags, recipe

    config = (tyro.conf.FlagCreatePairsOff,)
    return tyro.cli(command, args=words, config=config, description=__doc__)


def load_affinity(flags: Any) -> Any:
    """The stage that `--affinity` names, on its device; None without."""
    from method.restore import restore
    from utils import checkpoint
    from utils.distributed import choose_device, read_world

    if flags.affinity is None:
        return None
    content = checkpoint.load(flags.affinity)
    if content["stage"] != "affinity":
        raise UserError(f"--affinity {flags.affinity}: train it with train.py affinity")
    stage = restore(flags.affinity, content, flags.dataset, str(flags.root or ""))
    stage.network.to(choose_device(flags.device, read_world())).eval()
    return stage


def look_for_contrast(flags: Any, setting: str, spec: Any) -> tuple[Any, dict[str, Any]]:
    """Contrast of the folder, and what to keep of it with the masks; both are printed."""
    from method.contrast import choose_contrast, collect_evidence
    from method.light import light_of, light_warnings
    from utils.distributed import read_world
    from utils.pseudo import survey

    def collect(seed: Any, image: Any, keys: list[int]) -> tuple[Any, Any, list[int]]:
        return collect_evidence(seed, image, keys), light_of(image, seed), keys

    choose_contrast([], setting)  # refuses a wrong setting before the images are read
    evidence, light, tags = zip(*survey(flags, spec, collect))
    contrast = choose_contrast([item for row in evidence for item in row], setting)
    notes = light_warnings(light, tags, spec.classes)
    if read_world().main:
        print("\n".join([*contrast.lines(spec.classes), *(f"note: {note}" for note in notes)]))
    return contrast, contrast.record(spec.classes) | {"notes": notes}


def bound_sizes(flags: Any, recipe: Any, spec: Any, contrast: Any) -> dict[int, float]:
    """Factors of the maps of classes that are larger than a person says; they are printed."""
    import numpy as np

    from datalist.answer import SHARES, read_answers
    from method.contrast import contrast_scores
    from method.pseudo import shrink_factors, sure_level
    from utils.distributed import read_world
    from utils.pseudo import survey

    sizes = read_answers(flags.answers, spec.classes).sizes
    largest = {index: SHARES[size][1] for index, size in sizes.items() if size != "most"}
    tails: dict[int, list[float]] = defaultdict(list)

    def collect(seed: Any, image: Any, keys: list[int]) -> list[tuple[int, float]]:
        if contrast and contrast.used and not largest.keys().isdisjoint(keys):
            seed = contrast_scores(seed, image, keys, contrast)
        pairs = zip(keys, seed)
        return [(k, float(np.quantile(cam, 1 - largest[k]))) for k, cam in pairs if k in largest]

    for row in survey(flags, spec, collect, "sizes") if largest else ():
        for index, value in row:
            tails[index].append(value)
    shrink = shrink_factors(tails, sure_level(recipe, contrast))
    if shrink and read_world().main:
        names = ", ".join(f"{spec.classes[index]} {value:.2f}" for index, value in shrink.items())
        print(f"sure pixels exceed the sizes in {flags.answers}; factors of the maps: {names}")
    return shrink


def main(words: list[str] | None = None) -> None:
    """Read the flags and write the masks."""
    flags, recipe = read_flags(words)

    from datalist.spec import resolve
    from method.pseudo import mask_of
    from utils.pseudo import check_seeds, write_masks

    if (flags.purpose == "walked") != (flags.affinity is not None):
        raise UserError("--purpose walked goes with --affinity CHECKPOINT")
    spec = resolve(flags.dataset, flags.root)
    check_seeds(flags, spec)
    contrast = record = None
    if recipe.contrast != "off":
        contrast, record = look_for_contrast(flags, recipe.contrast, spec)
    shrink = {}
    if flags.answers and flags.purpose == "sure":
        shrink = bound_sizes(flags, recipe, spec, contrast)
    make = partial(mask_of, recipe=recipe, contrast=contrast, shrink=shrink)
    write_masks(flags, recipe, spec, make, load_affinity(flags), record, shrink)


if __name__ == "__main__":
    with entry():
        main()
