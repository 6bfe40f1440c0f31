"""Checkpoints: written whole or not at all, read without running anything, refused by name."""

import os
import tempfile
import zipfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from base import UserError

FORMAT = "seedseg-1"
KINDS = {"stage": str, "recipe": dict, "classes": list, "network": dict, "step": int}
"""Parts that every checkpoint has."""


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint beside its place, then rename; the one before stays as previous.pt.

    Raises:
        UserError: it cannot be written; the last good one is untouched.
    """
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save({"format": FORMAT, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.replace(path, path.with_name("previous.pt"))
        os.replace(draft, path)
    except (OSError, RuntimeError) as error:
        # torch reports a full disk as a RuntimeError of its zip writer.
        raise UserError(
            f"{path}: the checkpoint could not be written ({error}); the last one is kept, "
            "free space and start again to go on from it"
        ) from error
    finally:
        Path(draft).unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove the drafts of checkpoints that a kill left behind."""
    for draft in folder.glob(".last.pt-*"):
        draft.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are accepted."""
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not look at the checksums
            if torn := archive.testzip():
                raise ValueError(f"the checksum of its part {torn} is wrong")
            if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
                raise ValueError("it is compressed, which train.py's checkpoints are not")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        previous = path.with_name("previous.pt")
        hint = f"; remove it to go on from {previous}" if previous.is_file() else ""
        raise UserError(f"{path}: damaged, or not a checkpoint of tensors{hint}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: not a checkpoint of train.py (its mark {FORMAT!r} is missing)")
    check(path, content)
    return content


def check(path: Path, content: dict[str, Any]) -> None:
    """Raise UserError where a part of a checkpoint's content is missing or of another type."""
    missing = [key for key in KINDS if key not in content]
    if missing:
        raise UserError(f"{path}: the checkpoint lacks {', '.join(missing)}")
    wrong = [key for key, kind in KINDS.items() if not isinstance(content[key], kind)]
    if not wrong and not all(isinstance(name, str) for name in content["classes"]):
        wrong = ["classes"]
    if not wrong and not all(isinstance(value, Tensor) for value in content["network"].values()):
        wrong = ["network"]
    if wrong:
        raise UserError(f"{path}: the checkpoint's part '{wrong[0]}' is damaged")


def newest(folder: Path) -> Path | None:
    """The checkpoint to go on from: last.pt, else previous.pt, else None."""
    return next(filter(Path.is_file, (folder / "last.pt", folder / "previous.pt")), None)


def flatten(recipe: Any) -> dict[str, Any]:
    """Fields of a recipe, or of its stored form, by name; "group.field" where a name is taken."""
    flat: dict[str, Any] = {}
    for group, values in (recipe if isinstance(recipe, dict) else asdict(recipe)).items():
        for name, value in values.items() if isinstance(values, dict) else [(group, values)]:
            flat[f"{group}.{name}" if name in flat else name] = value
    return flat


def differences(recipe: Any, stored: dict[str, Any]) -> list[str]:
    """Fields in which a recipe and a stored one differ, as "name: stored -> now".

    A field that the stored one lacks came later, and had its default's effect before.
    """
    groups = {group.name: getattr(recipe, group.name) for group in fields(recipe)}
    defaults = {name: {f.name: f.default for f in fields(g)} for name, g in groups.items()}
    complete = {name: defaults.get(name, {}) | values for name, values in stored.items()}
    now, before = flatten(recipe), flatten(defaults | complete)
    return [
        f"{name}: {before.get(name)!r} -> {now.get(name)!r}"
        for name in sorted(now.keys() | before.keys())
        if now.get(name) != before.get(name)
    ]
