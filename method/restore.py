"""A trained stage from what a checkpoint holds; nothing in the file is trusted."""

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import torch

from base import UserError
from datalist.bands import from_stored
from datalist.spec import Spec, resolve
from method import STAGES, stage_class


def restore(
    path: Path, content: dict[str, Any], dataset: str = "", root: str = "", photos: bool = False
) -> Any:
    """Build the stage of a checkpoint and load its network's tensors.

    Args:
        content: of the file `path`, as `utils.checkpoint.load` gives it.
        dataset, root: data set to run on; empty: the one it was trained on.
        photos: no data set is needed; the checkpoint names the classes.

    Raises:
        UserError: for a stage, recipe or tensors that this version cannot use, or a data set of
            other classes.
    """
    if content["stage"] not in STAGES:
        raise UserError(f"{path}: stage '{content['stage'][:40]}' is not known to this version")
    stage_type = stage_class(content["stage"])
    recipe_type = type(next(iter(stage_type.recipes.values())))
    recipe = restore_recipe(path, content["recipe"], recipe_type)
    if dataset:
        recipe = replace(recipe, data=replace(recipe.data, dataset=dataset, root=root))
    if photos:
        spec = Spec(name="photos", root=path.parent, classes=tuple(content["classes"]), lists={})
    else:
        spec = resolve(recipe.data.dataset, recipe.data.root or None)
    # Pictures are read as the network learned them, whatever their folder says today.
    bands, size = from_stored(content.get("bands"), path), stored_size(content, path)
    spec = replace(spec, bands=bands, usual_size=size)
    if list(spec.classes) != content["classes"]:
        raise UserError(
            f"{path} was trained on the classes {', '.join(content['classes'])}; "
            f"{recipe.data.dataset} has {', '.join(spec.classes)}"
        )
    stored = {key: value.shape for key, value in content["network"].items()}
    sizes = [getattr(recipe.backbone, name, ()) for name in ("depth", "blocks")]
    if max((number for size in sizes for number in size), default=0) > len(stored):
        raise UserError(f"{path}: its recipe has more layers than tensors")
    try:
        # Shapes first, without memory for them: a damaged recipe can ask for any amount.
        with torch.device("meta"):
            wanted = stage_type(recipe, spec).network.state_dict()
        fits = stored == {key: value.shape for key, value in wanted.items()}
    except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        reason = str(error).partition("\n")[0][:80]
        raise UserError(f"{path}: no network can be built from its recipe ({reason})") from error
    if not fits:
        raise UserError(f"{path}: its tensors do not fit the network of its recipe")
    stage = stage_type(recipe, spec)
    stage.folder = path.parent
    stage.network.load_state_dict(content["network"])
    return stage


def stored_size(content: dict[str, Any], path: Path) -> tuple[int, int] | None:
    """Median (height, width) of the images that a checkpoint's network learned from, if stored.

    Raises:
        UserError: the checkpoint holds something else.
    """
    size = content.get("usual_size")
    size = tuple(size) if isinstance(size, list) else size
    if not is_of(size, tuple[int, int] | None) or not all(0 < n < 1 << 31 for n in size or ()):
        raise UserError(f"{path}: the size of its training images is damaged")
    return size


def restore_recipe(path: Path, stored: Any, hint: Any, name: str = "recipe") -> Any:
    """Rebuild a recipe, or a value in it, from plain dicts, tuples and numbers.

    What is lacking has its default. UserError where fields or types of values are not those of the
    dataclass or other annotation `hint`.
    """
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if isinstance(stored, dict):
        options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        groups: list[Any] = [option for option in options if is_dataclass(option)]
        # Families of backbones differ in their fields. A field that came with a later version may
        # lack: its default is what was done before.
        lacking = {group: {f.name for f in fields(group)} - set(stored) for group in groups}
        matching = [g for g in groups if len(lacking[g]) + len(stored) == len(fields(g))]
        fewest = min((len(lacking[group]) for group in matching), default=0)
        matching = [group for group in matching if len(lacking[group]) == fewest]
        if len(matching) != 1:
            known = {field.name for group in groups[:1] for field in fields(group)}
            odd = ", ".join(sorted(set(map(str, stored)) - known) or sorted(known))[:200]
            raise UserError(f"{path}: its recipe does not fit this version ({name}: {odd})")
        hints = get_type_hints(matching[0], include_extras=True)
        return matching[0](
            **{key: restore_recipe(path, value, hints[key], key) for key, value in stored.items()}
        )
    if not is_of(stored, hint):
        raise UserError(f"{path}: its recipe has {name} = {str(stored)[:40]!r}")
    return stored


def is_of(value: object, hint: Any) -> bool:
    """Whether a plain value is of the type that a field of a recipe is annotated with."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in inner
    if origin in (Union, UnionType):
        return any(is_of(value, option) for option in inner)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if inner[-1] is ...:
            inner = inner[:1] * len(value)
        return len(value) == len(inner) and all(map(is_of, value, inner))
    return type(value) is hint or (hint is float and type(value) is int)
