#!/usr/bin/env python
"""Train one stage: python train.py STAGE [flags]; python train.py STAGE --help lists them."""

import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from textwrap import fill
from typing import Annotated, Any

from base import entry
from method import STAGES, build_stage, stage_class, summary
from method.choose import choose_recipe

USAGE = """usage: train.py STAGE [--recipe NAME] [--backbone NAME] [flags]

stages:
{stages}

recipes: paper (as published), mxnet (SEC and its cue networks as ascust/SEC-MXNet has them),
         photo (photographs on a laptop, ImageNet weights from a pip package),
         small (drawn scenes on a laptop, no pretrained weights), smoke (seconds);
         default: paper for --dataset voc and coco, small for scenes, photo for a folder
backbones: the ending of a recipe's name, such as resnet50, or timm:NAME for a network of timm;
           class activation maps stay with convolutional ones

train.py STAGE --help shows the flags of a stage with their defaults, units and sources."""


@dataclass(frozen=True)
class Choice:
    """Which recipe the other flags start from."""

    recipe: str = ""
    """Named recipe: paper, mxnet, photo, small or smoke; empty: the one that suits the data set."""
    backbone: str = ""
    """Ending of a recipe's name, such as resnet50, or timm:NAME; empty: the recipe's own."""


@dataclass(frozen=True)
class Start(Choice):
    """All that decides which recipe the other flags start from."""

    dataset: str = "scenes"


def reader(start: Any, choice: Choice) -> Callable[..., tuple[Any, Any]]:
    """What tyro reads the flags with that start from a recipe: recipe and flags come back."""
    import tyro

    from utils.flags import Train

    flat = tyro.conf.arg(name="")

    def stage(
        run: tyro.conf.OmitArgPrefixes[tyro.conf.FlagCreatePairsOff[Train]],
        choice: tyro.conf.OmitArgPrefixes[Choice] = choice,
        recipe: Annotated[type(start), flat] = start,
    ) -> tuple[Any, Train]:
        return recipe, run

    return stage


def complete(words: list[str]) -> None:
    """Print or write what completes all stages and flags in a shell; `words` are tyro's flags."""
    import tyro

    readers = {name: reader(stage_class(name).recipes["small"], Choice()) for name in STAGES}
    config = (tyro.conf.AvoidSubcommands,)
    tyro.extras.subcommand_cli_from_dict(readers, prog="train.py", args=words, config=config)


def command(name: str, words: list[str]) -> tuple[Any, Any]:
    """Read the flags of a stage: its recipe, and how to run it."""
    import tyro

    first, _ = tyro.cli(Start, args=words, return_unknown_args=True, add_help=False)
    chosen, start = choose_recipe(name, first.recipe, first.backbone, first.dataset)
    choice = Choice(first.recipe, first.backbone)
    text = f"{summary(name)} The defaults shown are those of the recipe {chosen}."
    config = (tyro.conf.AvoidSubcommands,)
    program = f"train.py {name}"
    return tyro.cli(
        reader(start, choice), prog=program, description=text, args=words, config=config
    )


def main(arguments: list[str]) -> int:
    # By hand, as tyro takes the value of an unknown flag for a positional argument.
    if not arguments or arguments[0] in ("-h", "--help"):
        stages = "\n".join(f"  {name:17}{summary(name)}" for name in STAGES)
        print(USAGE.format(stages=stages))
        return 0
    if arguments[0].startswith("--tyro-"):
        complete(arguments)
    name, *words = arguments
    recipe, flags = command(name, words)

    from utils import distributed

    world = distributed.read_world()
    device = distributed.choose_device(flags.device, world)
    with distributed.joined(world, device):
        return run_stage(name, recipe, flags, world)


def show(values: dict[str, Any]) -> str:
    """Values of a recipe in lines of 80 characters; a path stands on one line and can be pasted."""
    words = [
        f"{key}={shlex.quote(value) if isinstance(value, str) else str(value).replace(' ', '')}"
        for key, value in values.items()
    ]
    text = "  ".join(word.replace(" ", "\0") for word in words)
    return fill(text, 80, break_long_words=False, break_on_hyphens=False).replace("\0", " ")


def run_stage(name: str, recipe: Any, flags: Any, world: Any) -> int:
    """Build a stage and train it; returns the exit code."""
    import torch

    from datalist.spec import resolve
    from utils.checkpoint import flatten
    from utils.distributed import main_first
    from utils.loop import Interrupted, train
    from utils.machine import keep_freed_memory

    keep_freed_memory()
    with main_first(world):  # the embedded data set is drawn, or weights fetched, only once
        spec = resolve(recipe.data.dataset, recipe.data.root or None)
        torch.manual_seed(recipe.solver.seed)
        stage = build_stage(name, recipe, spec)
        report = stage.load()
    if world.main:
        print(show(flatten(stage.recipe)))
        print(report)
    try:
        state = "trained" if train(stage, name, flags, world) else "finished before"
        if world.main:
            print(f"{flags.out / 'last.pt'}: {state}")
    except Interrupted as stop:
        number = signal.Signals(stop.args[0])
        if world.main:
            text = f"stopped by {number.name}; run the same command to continue from {flags.out}"
            print(text, file=sys.stderr)
        return 128 + number
    return 0


if __name__ == "__main__":
    with entry():
        sys.exit(main(sys.argv[1:]))
