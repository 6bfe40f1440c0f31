"""Smoke recipes: small versions of other recipes, which run every line of a method in seconds."""

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

R = TypeVar("R")

SMOKE = {
    "size": (32, 32), "long": (32, 40), "test_long": 40, "steps": 4, "batch": 2,
    "depth": 1, "blocks": 1, "width": 8, "hidden": 8, "low": 8, "reduced": 8,
    "pairs": 4, "radius": 3, "ramp": 0, "recursion_epoch": 0, "mix_epoch": 0,
}  # fmt: skip
"""Values of fields by name; a number stands for every entry where the field is a tuple.

Channels are multiples of 8: on processors without AVX-512, torch 2.14 writes beyond its memory in
the backward pass of a strided 1 x 1 convolution of fewer input channels in channels_last.
"""


def smoke(recipe: R) -> R:
    """Shrink a recipe, all its groups alike; a field that is off (None or 0) stays off."""
    changes: dict[str, Any] = {}
    for field in fields(recipe):  # type: ignore[arg-type]
        value = getattr(recipe, field.name)
        if is_dataclass(value):
            changes[field.name] = smoke(value)
        elif field.name in SMOKE and value:
            small = SMOKE[field.name]
            repeat = isinstance(value, tuple) and not isinstance(small, tuple)
            changes[field.name] = (small,) * len(value) if repeat else small
    return replace(recipe, **changes)  # type: ignore[type-var]
