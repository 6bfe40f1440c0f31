"""The methods. A new one is a file here and a line in this table."""

from __future__ import annotations

import ast
from dataclasses import replace
from importlib import import_module
from math import sqrt
from pathlib import Path
from statistics import median
from typing import Any

from base import UserError

STAGES = {
    "cam": ("method.cam", "CAM"),
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
    return (ast.get_docstring(classes[attribute]) or "").partition("\n")[0]


def choose_recipe(name: str, recipe: str, backbone: str, dataset: str) -> tuple[str, Any]:
    """The recipe that a stage starts from, before any flag changes it.

    Args:
        name: stage.
        recipe: name of a recipe; empty: paper for voc and coco, small for scenes, and photo for a
            folder, where the stage has it.
        backbone: empty for the recipe's own; the ending of a recipe's name, such as resnet50; or
            timm:NAME.
        dataset: as of `--dataset`.

    Returns:
        Name and recipe.

    Errors: UserError for a recipe or backbone that the stage does not have.
    """
    recipes = stage_class(name).recipes
    if not recipe:
        recipe = {"voc": "paper", "coco": "paper", "scenes": "small"}.get(dataset, "photo")
        recipe = recipe if recipe in recipes else "small"
    chosen = recipe
    if backbone and not backbone.startswith("timm:") and not recipe.endswith(f"-{backbone}"):
        own = recipe in recipes and type(recipes[recipe].backbone).__name__.lower() == backbone
        chosen = recipe if own else f"{recipe}-{backbone}"
    if chosen not in recipes:
        raise UserError(f"{name} has no recipe {chosen}; its recipes are {', '.join(recipes)}")
    value = recipes[chosen]
    if backbone.startswith("timm:"):
        value = replace(value, backbone=timm_backbone(backbone.removeprefix("timm:")))
    if dataset == "coco" and recipe in ("paper", "mxnet"):
        # Lengths in steps are those of VOC's 10,582 images; COCO 2014 has 82,081.
        value = replace(value, solver=value.solver.scaled(82081 / 10582))
    return chosen, replace(value, data=replace(value.data, dataset=dataset))


def timm_backbone(model: str) -> Any:
    """A network of timm, from a pip package's weights where one contains them, else from timm's."""
    from method.backbone import Timm
    from network.package import PACKAGES

    return Timm(model, weights="package" if model in PACKAGES else "timm")


def build_stage(name: str, recipe: Any, spec: Any) -> Any:
    """A stage, its input size taken from the data set where the recipe leaves it open."""
    if recipe.data.size is None:
        recipe = replace(recipe, data=replace(recipe.data, size=usual_size(recipe.data, spec)))
    return stage_class(name)(recipe, spec)


def usual_size(data: Any, spec: Any, most: int = 500) -> tuple[int, int]:
    """Height and width of `data.area` pixels in the median shape of the first training images.

    Both are multiples of 16, at least 32, as strided networks like them.
    """
    from datalist.image import image_size

    sizes = [image_size(spec.image_path(image_id)) for image_id in spec.ids(data.split)[:most]]
    height, width = (median(side) for side in zip(*sizes))
    factor = sqrt(data.area / (height * width))
    return max(32, 16 * round(height * factor / 16)), max(32, 16 * round(width * factor / 16))
