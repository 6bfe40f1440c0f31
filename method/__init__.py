"""The methods. A new one is a file here and a line in this table."""

from __future__ import annotations

import ast
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from base import UserError

STAGES = {
    "cue-foreground": ("method.cue", "ForegroundCue"),
    "cue-background": ("method.cue", "BackgroundCue"),
    "sec": ("method.sec", "SEC"),
    "dsrg": ("method.dsrg", "DSRG"),
    "dsrg-retrain": ("method.dsrg", "Retrain"),
    "rsepm": ("method.rsepm", "RecurSeed"),
    "affinity": ("method.affinity", "Affinity"),
    "deeplab": ("method.deeplab", "DeepLab"),
    "seam": ("method.seam", "SEAM"),
    "segmenter": ("method.locate", "Segmenter"),
    "resegment": ("method.locate", "Resegment"),
    "supervised": ("method.supervised", "Supervised"),
}
"""Stage name on the command line -> module and class."""


def stage_class(name: str) -> Any:
    """Class of the stage of that name, imported when asked for, so that --help is quick.

    Errors: UserError for a name that no stage has.
    """
    if name not in STAGES:
        raise UserError(f"'{name}' is no stage; stages are {', '.join(STAGES)}")
    module, attribute = STAGES[name]
    return getattr(import_module(module), attribute)


def summary(name: str) -> str:
    """First line of a stage's docstring, read without importing it: --help takes no seconds."""
    module, attribute = STAGES[name]
    source = Path(__file__).with_name(module.rpartition(".")[2] + ".py").read_text("utf-8")
    classes = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    return ast.get_docstring(classes[attribute]).partition("\n")[0]


def choose_recipe(name: str, recipe: str, backbone: str, dataset: str) -> tuple[str, Any]:
    """The recipe that a stage starts from, before any flag changes it.

    Args:
        name: stage.
        recipe: name of a recipe; empty: paper for voc and coco, else small.
        backbone: empty for the recipe's own, or the ending of a recipe's name, such as resnet50.
        dataset: as of `--dataset`.

    Returns:
        Name and recipe.

    Errors: UserError for a recipe or backbone that the stage does not have.
    """
    recipes = stage_class(name).recipes
    recipe = recipe or ("paper" if dataset in ("voc", "coco") else "small")
    chosen = f"{recipe}-{backbone}" if backbone and not recipe.endswith(f"-{backbone}") else recipe
    if chosen not in recipes and backbone and recipe in recipes:
        family = type(recipes[recipe].backbone).__name__.lower()
        if backbone.replace("-", "") == family:  # the recipe's own
            chosen = recipe
    if chosen not in recipes:
        flags = f"--recipe {recipe}" + (f" --backbone {backbone}" if backbone else "")
        raise UserError(f"{name} has no {flags}; its recipes are {', '.join(recipes)}")
    value = recipes[chosen]
    if dataset == "coco" and recipe in ("paper", "mxnet"):
        # Lengths in steps are those of VOC's 10,582 images; COCO 2014 has 82,081.
        value = replace(value, solver=value.solver.scaled(82081 / 10582))
    return chosen, replace(value, data=replace(value.data, dataset=dataset))
