#!/usr/bin/env python
"""Make masks to learn from of seeds: python pseudo.py SEEDS --out DIR [flags].

Seeds are the score files of test.py: each tagged class over its maximum. With --affinity they first
walk up to the boundaries that a network sees. Background scores and CRF are those of a recipe in
method/pseudo.py.
"""

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
    """Flags and recipe of the command line.

    Raises:
        UserError: no recipe has the given name or purpose.
    """
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
    """The stage that `--affinity` names, on its device; None without.

    Raises:
        UserError: the checkpoint is of another stage or of other classes.
    """
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


def main(words: list[str] | None = None) -> None:
    """Read the flags and write the masks."""
    flags, recipe = read_flags(words)

    from datalist.spec import resolve
    from method.contrast import choose_contrast, collect_evidence
    from method.pseudo import mask_of
    from utils.pseudo import check_seeds, gather_evidence, write_masks

    if (flags.purpose == "walked") != (flags.affinity is not None):
        raise UserError("--purpose walked goes with --affinity CHECKPOINT")
    spec = resolve(flags.dataset, flags.root)
    check_seeds(flags, spec)
    contrast, record = choose_contrast([], recipe.contrast), None
    if recipe.contrast != "off":
        contrast = choose_contrast(gather_evidence(flags, spec, collect_evidence), recipe.contrast)
        record = contrast.record(spec.classes)
        print("\n".join(contrast.lines(spec.classes)))
    make = partial(mask_of, recipe=recipe, contrast=contrast)
    write_masks(flags, recipe, spec, make, load_affinity(flags), record)


if __name__ == "__main__":
    with entry():
        main()
