"""Flags of a recipe: one box of help for each class that declares fields of it."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import dataclass, field, fields, make_dataclass, replace
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import Annotated, Any, Literal, get_type_hints

import tyro


def field_texts(kind: type) -> dict[str, str]:
    """The string below each field of a class body, by name, on one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body
    return {
        line.target.id: " ".join(after.value.value.split())
        for line, after in pairwise(body)
        if isinstance(line, ast.AnnAssign)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }


def groups(recipe: Any) -> dict[str, type]:
    """Split a recipe by the class that first declares each field.

    Args:
        recipe: instance of a dataclass, whose classes document their fields by strings below.

    Returns:
        Title -> a dataclass of those fields, with the recipe's values as defaults and the texts
        of the class that declares a field last.
    """
    kinds = [kind for kind in reversed(type(recipe).__mro__) if "__annotations__" in vars(kind)]
    hints = get_type_hints(type(recipe))
    texts = {name: text for kind in kinds for name, text in field_texts(kind).items()}
    seen: set[str] = set()
    found = {}
    for kind in kinds:
        names = [f.name for f in fields(kind) if f.name in vars(kind)["__annotations__"]]
        new = [name for name in names if name not in seen]
        seen.update(new)
        if not new:
            continue
        title = kind.__name__.removesuffix("Recipe").lower() or "solver"
        made = [
            (
                name,
                Annotated[hints[name], tyro.conf.arg(help=texts.get(name, ""))],
                field(default=getattr(recipe, name)),
            )
            for name in new
        ]
        found[title] = make_dataclass(title.capitalize(), made, frozen=True)
        found[title].__doc__ = inspect.getdoc(kind).partition("\n\n")[0]
    return found


def flags_of(recipe: Any, named: str, names: list[str], run: type) -> type:
    """A dataclass of all flags of a stage: --recipe, the recipe's groups, and how to run.

    Args:
        recipe: the named recipe, whose values are the defaults.
        named, names: its name, and all names there are.
        run: dataclass of the settings that no recipe holds.
    """
    text = "Named values of all flags below, each of which changes one of them."
    made: list[tuple] = [
        ("recipe", Annotated[Literal[tuple(names)], tyro.conf.arg(help=text)], field(default=named))
    ]
    for title, kind in groups(recipe).items():
        made.append((title, tyro.conf.OmitArgPrefixes[kind], field(default_factory=kind)))
    made.append(("run", tyro.conf.OmitArgPrefixes[tyro.conf.FlagCreatePairsOff[run]]))
    return make_dataclass("Flags", made, kw_only=True)


def complete(kinds: dict[str, type], prog: str, words: list[str]) -> None:
    """Print or write a script that completes flags in a shell, then exit.

    Args:
        kinds: dataclass of the flags of each stage, by name.
        words: the command line, tyro's own flags for this.
    """
    stages = [Annotated[kind, tyro.conf.subcommand(name)] for name, kind in kinds.items()]
    tyro.cli(reduce(or_, stages), prog=prog, args=words)


@dataclass(frozen=True)
class Parsed:
    """What the flags of a stage say."""

    recipe: Any
    run: Any


def parse(
    recipe: Any, named: str, names: list[str], run: type, prog: str, text: str, words: list[str]
) -> Parsed:
    """Read the flags of a stage; arguments as in `flags_of`.

    Args:
        prog, text: name of the program and description, for the help.
        words: the command line after them.
    """
    kind = flags_of(recipe, named, names, run)
    flags = tyro.cli(kind, prog=prog, description=text, args=words)
    values = {
        name.name: getattr(getattr(flags, title), name.name)
        for title, group in groups(recipe).items()
        for name in fields(group)
    }
    return Parsed(replace(recipe, **values), flags.run)
