"""The record of a folder: the command that wrote it, and the settings that decide its content."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from base import UserError
from utils import inputs
from utils.output import SUFFIX, write_text

NEUTRAL = {"out", "image", "longest", "save", "split"}
NEUTRAL |= {"batch", "device", "fresh", "memory", "processes", "threads", "quiet"}
"""Settings that change no prediction of a split, or only which of them there are."""


def command_line() -> str:
    """This program's command, to be pasted into a shell."""
    return shlex.join(["python", *sys.argv])


def read_record(path: Path) -> dict[str, Any]:
    """A recipe.json or predict.json; empty where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def keep_settings(predict: Any, checkpoint: Path, tags: Mapping[str, tuple[int, ...]]) -> None:
    """Write how a folder's predictions are computed to OUT/predict.json.

    Args:
        predict: settings of test.py, with the folder `out`.
        checkpoint: the network's file.
        tags: class indices of each image; empty where they have no part in the predictions.

    Errors: UserError as of `keep_record`.
    """
    settings = {k: v for k, v in asdict(predict).items() if k not in NEUTRAL}
    settings["network"] = f"{inputs.file_checksum(checkpoint):08x}"
    if tags:
        settings["tags"] = inputs.total(inputs.tag_checksums(tags))
    more = {"command": command_line(), "checkpoint": str(checkpoint)}
    keep_record(predict.out / "predict.json", settings, predict.fresh, more)


def keep_record(path: Path, settings: dict[str, Any], fresh: bool, more: dict[str, Any]) -> None:
    """Write the settings behind the files of a folder; compare with those of the files there.

    Files that are whole are not written again, so other settings would give a mixture.

    Args:
        path: OUT/NAME.json.
        settings: plain values that decide the content of the files.
        fresh: move files of other settings to OUT/old-N.
        more: what else the record tells.

    Errors: UserError that names the settings that differ, without `fresh`.
    """
    settings = json.loads(json.dumps(settings, default=str))  # tuples become lists, as in the file
    before = read_record(path).get("settings", settings)
    if not isinstance(before, dict):
        before = {}
    changed = [
        f"{name}: {before.get(name)} -> {settings.get(name)}"
        for name in sorted(before.keys() | settings.keys())
        if before.get(name) != settings.get(name)
    ]
    if changed:
        difference = f"{path.parent} holds other files ({'; '.join(changed)})"
        if not fresh:
            raise UserError(
                f"{difference}: add --fresh to keep them in {path.parent}/old-N and compute "
                "them again (for a chain set FRESH=1), or give another --out"
            )
        old = inputs.set_aside(path.parent, (*SUFFIX, path.name))
        print(f"{difference}: moved to {old}")
    write_text(path, json.dumps({**more, "settings": settings}, indent=1) + "\n")
