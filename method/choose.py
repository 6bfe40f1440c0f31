"""Which recipe goes with a data set, for stages, for masks, and for the chains in script/.

python -m method.choose DATASET [flags of train.py] prints the name of the recipe.
"""

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import tyro
from tyro.conf import Positional

from base import UserError, entry

if TYPE_CHECKING:
    from method.pseudo import PseudoRecipe

SUITED = {"voc": "paper", "coco": "paper", "scenes": "small"}
"""Data set -> name of the recipe; for a folder of pictures it is `photo`."""

OF_MAPS = ("cam", "seam", "segmenter", "resegment", "rsepm")
"""Stages whose backbone makes class activation maps."""
AGAINST = (
    "class activation maps of a transformer are bad (docs/methods.md). With --recipe photo, "
    "--model NAME --weights timm takes one all the same"
)


def recipe_name(dataset: str, recipe: str = "") -> str:
    """Name of the recipe: the given one, or else the one that suits the data set."""
    return recipe or SUITED.get(dataset, "photo")


def choose_recipe(name: str, recipe: str, backbone: str, dataset: str) -> tuple[str, Any]:
    """Name and content of the recipe that a stage starts from, before any flag changes it.

    Args:
        name: stage.
        recipe: name of a recipe; empty: the one that suits the data set, or small where the stage
            has no such recipe.
        backbone: empty for the recipe's own; the ending of a recipe's name, such as resnet50; or
            timm:NAME.

    Raises:
        UserError: for a recipe or backbone that the stage does not have.
    """
    from method import stage_class
    from method.backbone import Timm, Transformer
    from network.package import PACKAGES
    from network.transformer import is_transformer

    recipes = stage_class(name).recipes
    if not recipe:
        recipe = recipe_name(dataset) if recipe_name(dataset) in recipes else "small"
    chosen = recipe
    if backbone and not backbone.startswith("timm:") and not recipe.endswith(f"-{backbone}"):
        own = recipe in recipes and type(recipes[recipe].backbone).__name__.lower() == backbone
        chosen = recipe if own else f"{recipe}-{backbone}"
    if chosen not in recipes:
        raise UserError(f"{name} has no recipe {chosen}; its recipes are {', '.join(recipes)}")
    value = recipes[chosen]
    if backbone.startswith("timm:"):
        model = backbone.removeprefix("timm:")
        package = "package" if model in PACKAGES else "timm"
        network = Transformer(model) if is_transformer(model) else Timm(model, weights=package)
        if name in OF_MAPS and isinstance(network, Transformer):
            # A chain gives all its stages the same flags: this one goes on with its own network.
            print(f"warning: {name} keeps its own backbone: {AGAINST}", file=sys.stderr)
        else:
            value = replace(value, backbone=network)
    if dataset == "coco" and recipe in ("paper", "mxnet"):
        # Lengths in steps are those of VOC's 10,582 images; COCO 2014 has 82,081.
        value = replace(value, solver=value.solver.scaled(82081 / 10582))
    return chosen, replace(value, data=replace(value.data, dataset=dataset))


def choose_pseudo(recipe: str, purpose: str, dataset: str) -> "PseudoRecipe":
    """The recipe of masks that learn from seeds; `recipe` and `dataset` as of `choose_recipe`.

    Raises:
        UserError: for an unknown name, or an unknown purpose of the masks.
    """
    from method.pseudo import RECIPES

    name = recipe_name(dataset, recipe)
    if name not in RECIPES:
        raise UserError(f"--recipe {name}: masks have the recipes {', '.join(RECIPES)}")
    if purpose not in RECIPES[name]:
        raise UserError(f"--purpose {purpose}: give one of {', '.join(RECIPES[name])}")
    return RECIPES[name][purpose]


def main(
    dataset: Positional[str],
    recipe: str = "",
    steps: str = "",
    epochs: str = "",
    external: bool = False,
) -> None:
    """Print the name of the recipe; other flags of train.py are passed over.

    Args:
        dataset: voc, coco, scenes or a folder.
        recipe: name of a recipe; empty: the one that suits the data set.
        steps, epochs: length of the training, if it is not the recipe's.
        external: the recipe of a localiser of other classes, as script/locate.sh has it.
    """
    name = recipe_name(dataset, recipe)
    own_length = steps or epochs
    print("photo-external" if external and name == "photo" and not own_length else name)


if __name__ == "__main__":
    with entry():
        tyro.cli(main, return_unknown_args=True)
