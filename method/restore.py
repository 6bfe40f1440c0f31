"""A trained stage from what a checkpoint holds, with nothing in the file taken on trust."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch

from base import UserError
from datalist.spec import Spec, resolve
from method import STAGES, stage_class
from method.stage import Stage


def restore(
    path: Path, content: dict[str, Any], dataset: str = "", root: str = "", photos: bool = False
) -> Stage:
    """Build the stage of a checkpoint and give its network the tensors.

    Args:
        path: file that the content is from, for messages.
        content: stage, recipe, classes and network, as `utils.checkpoint.load` gives them.
        dataset, root: data set to run on; empty: the one it was trained on.
        photos: no data set is needed; the checkpoint names the classes.

    Errors: UserError for a stage, recipe or tensors that this version cannot use, or a data set
    of other classes.
    """
    if content["stage"] not in STAGES:
        raise UserError(f"{path}: stage '{content['stage'][:40]}' is not known to this version")
    kind = stage_class(content["stage"])
    recipe = restore_recipe(path, content, type(next(iter(kind.recipes.values()))))
    if dataset:
        recipe = replace(recipe, dataset=dataset, root=root)
    if photos:
        spec = Spec(name="photos", root=path.parent, classes=tuple(content["classes"]), lists={})
    else:
        spec = resolve(recipe.dataset, recipe.root or None)
    if list(spec.classes) != content["classes"]:
        raise UserError(
            f"{path} was trained on the classes {', '.join(content['classes'])}; "
            f"{recipe.dataset} has {', '.join(spec.classes)}"
        )
    found = {key: value.shape for key, value in content["network"].items()}
    if max(getattr(recipe, "depth", ()), default=0) > len(found):
        raise UserError(f"{path}: its recipe has more layers than tensors")
    try:
        # Shapes first, without memory for them: a damaged recipe can ask for any amount.
        with torch.device("meta"):
            wanted = kind(recipe, spec).network.state_dict()
        fits = found == {key: value.shape for key, value in wanted.items()}
    except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        reason = str(error).partition("\n")[0][:80]
        raise UserError(f"{path}: its recipe makes no network ({reason})") from error
    if not fits:
        raise UserError(f"{path}: its tensors are not those of its recipe's network")
    stage = kind(recipe, spec)
    stage.network.load_state_dict(content["network"])
    return stage


def restore_recipe(path: Path, content: dict[str, Any], kind: type) -> Any:
    """Rebuild the recipe dataclass of type `kind` from a checkpoint.

    Errors: UserError where its fields or the types of their values are not those of `kind`.
    """
    stored, hints = content["recipe"], get_type_hints(kind)
    known = {field.name for field in fields(kind)}
    if set(stored) != known:
        odd = ", ".join(sorted(known ^ set(map(str, stored))))
        raise UserError(f"{path}: its recipe does not fit this version ({odd})")
    for name, value in stored.items():
        if not is_of(value, hints[name]):
            raise UserError(f"{path}: its recipe has {name} = {str(value)[:40]!r}")
    return kind(**stored)


def is_of(value: object, hint: Any) -> bool:
    """Say whether a value is of the type that a field of a recipe is annotated with."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in inner
    if origin in (Union, UnionType):
        return any(is_of(value, one) for one in inner)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if inner[-1] is ...:
            inner = inner[:1] * len(value)
        return len(value) == len(inner) and all(map(is_of, value, inner))
    return type(value) is hint or (hint is float and type(value) is int)
