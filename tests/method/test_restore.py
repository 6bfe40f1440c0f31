"""A stage from a checkpoint's content: refused by name before any memory is taken."""

from pathlib import Path
from typing import Literal

import pytest
from readers import content

from base import UserError
from base.recipe import Solver
from method.restore import is_of, restore

FILE = Path("run/last.pt")


def changed(**parts):
    return {**content(), **parts}


def recipe(**fields):
    """Content whose recipe has other values in some fields of its groups."""
    groups = {name: dict(group) for name, group in content()["recipe"].items()}
    for key, value in fields.items():
        next(group for group in groups.values() if key in group)[key] = value
    return changed(recipe=groups)


def group(name, value):
    return changed(recipe={**content()["recipe"], name: value})


def test_sound_content():
    stage = restore(FILE, content(), photos=True)
    assert stage.num_classes == 3 and stage.recipe.solver.steps == 4
    older = restore(FILE, group("solver", {"lr": 1.0}), photos=True).recipe
    assert older.solver == Solver(lr=1.0)


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        (changed(stage="magic"), r"last\.pt: stage 'magic' is not known"),
        (recipe(width=(4, 4, "x", 4, 4)), r"its recipe has width = "),
        (recipe(lr="fast"), r"its recipe has lr = 'fast'"),
        (recipe(policy="never"), r"its recipe has policy = 'never'"),
        (group("more", 1), r"does not fit this version \(recipe: more\)"),
        (group("solver", {**content()["recipe"]["solver"], "more": 1}), r"\(solver: more\)"),
        (group("solver", 3), r"its recipe has solver = '3'"),
        (group("backbone", {"width": (4,)}), r"does not fit this version \(backbone: "),
        (group("data", None), r"its recipe has data = 'None'"),
        (recipe(depth=(10**9, 1, 1, 1, 1)), "more layers than tensors"),
        (recipe(width=(10**7,) * 5), "tensors do not fit the network of its recipe"),
        (recipe(width=(-1,) * 5), "no network can be built from its recipe"),
        (changed(classes=["background", "cat"]), "tensors do not fit"),
        (changed(network={}), "more layers than tensors"),
    ],
)
def test_refusals(parts, match):
    with pytest.raises(UserError, match=match):
        restore(FILE, parts, photos=True)


def test_data_set_of_other_classes(four_root):
    with pytest.raises(UserError, match="was trained on the classes background, cat, dog"):
        restore(FILE, content(), dataset=str(four_root))


def test_types_of_fields():
    assert is_of(1, float) and is_of((1, 2), tuple[int, ...]) and is_of(None, int | None)
    assert is_of("a", Literal["a"]) and is_of((1, 2.0), tuple[int, float])
    for value, hint in (
        (True, int), (1.0, int), (1, str), ("b", Literal["a"]), ([], Literal["a"]),
        ([1], tuple[int, ...]), (("a",), tuple[int, ...]), ((1,), tuple[int, int]),
    ):  # fmt: skip
        assert not is_of(value, hint)
