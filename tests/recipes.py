"""Recipes with single fields changed, by the names that `utils.checkpoint.flatten` gives them."""

from dataclasses import fields, replace
from typing import Any

from utils.checkpoint import flatten


def change(recipe: Any, **values: Any) -> Any:
    """Replace fields of a recipe's groups: change(recipe, lr=0.1, **{"decoder.dropout": 0.0})."""
    unknown = values.keys() - flatten(recipe).keys()
    assert not unknown, f"no fields {unknown}"
    groups, taken = {}, set()
    for group in fields(recipe):
        content = getattr(recipe, group.name)
        new = {}
        for field in fields(content):
            name = f"{group.name}.{field.name}" if field.name in taken else field.name
            taken.add(name)
            if name in values:
                new[field.name] = values[name]
        groups[group.name] = replace(content, **new)
    return replace(recipe, **groups)


def change_known(recipe: Any, **values: Any) -> Any:
    """`change`, with the fields that the recipe has; the others are left out."""
    known = flatten(recipe)
    return change(recipe, **{name: value for name, value in values.items() if name in known})
