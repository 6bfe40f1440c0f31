#!/usr/bin/env python
"""Train one stage: python train.py STAGE [flags]; python train.py STAGE --help lists them."""

import signal
import sys
from dataclasses import asdict
from textwrap import fill

from base import UserError, entry
from datalist.spec import resolve
from method import STAGES, stage_class, summary

USAGE = """usage: train.py STAGE [--recipe NAME] [flags]

stages:
{stages}

recipes: paper (as published), small (a laptop, no pretrained weights), smoke (seconds),
         mxnet (SEC and its cue networks on VGG16 as ascust/SEC-MXNet has them);
         default: paper for --dataset voc and coco, else small;
         --backbone resnet50 takes the recipe of that name on ResNet-50

train.py STAGE --help shows the flags of a stage with their defaults, units and sources."""
COMPLETION = ("--tyro-print-completion", "--tyro-write-completion")


def option(arguments: list[str], name: str, default: str) -> str:
    """Value of `--name VALUE` or `--name=VALUE`, looked up before the flags are known."""
    for place, word in enumerate(arguments):
        if word == f"--{name}" and place + 1 < len(arguments):
            return arguments[place + 1]
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
    return default


def choose_recipe(kind: type, arguments: list[str]) -> str:
    """Name of the recipe asked for, or of the one that suits the data set."""
    published = option(arguments, "dataset", "scenes") in ("voc", "coco")
    name = option(arguments, "recipe", "paper" if published else "small")
    backbone = option(arguments, "backbone", "vgg16")
    if backbone != "vgg16" and not name.endswith(backbone):
        name = f"{name}-{backbone}"
    if name not in kind.recipes:
        raise UserError(f"--recipe {name}: this stage has {', '.join(kind.recipes)}")
    return name


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        stages = "\n".join(f"  {name:17}{summary(name)}" for name in STAGES)
        print(USAGE.format(stages=stages))
        return 0
    name, *words = arguments
    if name not in STAGES and name not in COMPLETION:
        raise UserError(f"'{name}' is no stage; stages are {', '.join(STAGES)}")

    # After the quick refusals: these take a second to import.
    from utils import distributed, flags
    from utils.loop import Run

    if name in COMPLETION:
        kinds = {}
        for stage in STAGES:
            recipes = stage_class(stage).recipes
            named = next(iter(recipes))
            kinds[stage] = flags.flags_of(recipes[named], named, list(recipes), Run)
        flags.complete(kinds, "train.py", arguments)
    kind = stage_class(name)
    named = choose_recipe(kind, words)
    names = list(kind.recipes)
    parsed = flags.parse(
        kind.recipes[named], named, names, Run, f"train.py {name}", summary(name), words
    )
    recipe, run = parsed.recipe, parsed.run
    place = distributed.world()
    device = distributed.choose_device(run.device, place)
    with distributed.joined(place, device):
        return run_stage(name, kind, recipe, run, place)


def run_stage(name: str, kind: type, recipe, run, place) -> int:
    """Build a stage and train it; returns the exit code."""
    import torch

    from utils.distributed import main_first
    from utils.loop import Interrupted, train

    with main_first(place):  # the embedded data set is drawn, or weights fetched, only once
        spec = resolve(recipe.dataset, recipe.root or None)
        torch.manual_seed(recipe.seed)
        stage = kind(recipe, spec)
        report = stage.load()
    if place.main:
        words = [f"{key}={value}".replace(" ", "") for key, value in asdict(recipe).items()]
        print(fill("  ".join(words), 80, break_long_words=False, break_on_hyphens=False))
        print(report)
    try:
        state = "trained" if train(stage, name, run, place) else "finished before"
        if place.main:
            print(f"{run.out / 'last.pt'}: {state}, {recipe.steps} steps")
    except Interrupted as stop:
        number = signal.Signals(stop.args[0])
        if place.main:
            print(
                f"stopped by {number.name}; the same command goes on from {run.out}",
                file=sys.stderr,
            )
        return 128 + number
    return 0


if __name__ == "__main__":
    with entry("train.py"):
        sys.exit(main(sys.argv[1:]))
