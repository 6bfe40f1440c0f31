"""Recipes with single fields changed, by the names that `utils.checkpoint.flatten` gives them."""

from dataclasses import fields, replace
from typing import Any

from base.recipe import change
from method import stage_class
from method.backbone import Timm
from method.smoke import smoke
from utils.checkpoint import flatten

TIMM = "tf_mobilenetv3_small_minimal_100"
"""A small network of timm whose padding is TensorFlow's, as that of the photo recipes' network."""


def change_known(recipe: Any, **values: Any) -> Any:
    """`change`, with the fields that the recipe has; the others are left out."""
    known = flatten(recipe)
    return change(recipe, **{name: value for name, value in values.items() if name in known})


def recipe_of(name: str, recipe: str) -> Any:
    """A stage's recipe by name; "photo-timm" is its photo recipe at smoke size, without weights."""
    recipes = stage_class(name).recipes
    if recipe != "photo-timm":
        return recipes[recipe]
    network = Timm(TIMM, weights="none", norm=True)
    networks = {"backbone", "segmenter"} & {field.name for field in fields(recipes["photo"])}
    small = replace(smoke(recipes["photo"]), **dict.fromkeys(networks, network))
    return change(small, size=(32, 32), steps=4, batch=2, warmup=0)
