"""What made the files of a folder: the command, and the settings that decide their content."""

from __future__ import annotations

import json
import shlex
import sys
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from base import UserError
from utils.output import write_text

NEUTRAL = {"out", "image", "longest", "save", "split"}
NEUTRAL |= {"batch", "device", "memory", "processes", "threads", "quiet"}
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


def keep_settings(predict: Any, checkpoint: Path) -> None:
    """Write how a folder's predictions are made to OUT/predict.json.

    Predictions that are there are not made again, so a folder of others would become a mixture.

    Args:
        predict: settings of test.py, with the folder `out`.
        checkpoint: the network's file.

    Errors: UserError for a folder whose predictions were made with other settings, or by
    another network.
    """
    settings = {k: v for k, v in asdict(predict).items() if k not in NEUTRAL}
    settings["checksum"] = f"{zlib.crc32(checkpoint.read_bytes()):08x}"
    settings = json.loads(json.dumps(settings, default=str))  # tuples become lists, as in the file
    path = predict.out / "predict.json"
    before = read_record(path).get("settings", settings)
    changed = [
        f"{name.replace('checksum', 'network')}: {before.get(name)} -> {settings.get(name)}"
        for name in sorted(before.keys() | settings.keys())
        if before.get(name) != settings.get(name)
    ]
    if changed:
        raise UserError(
            f"{predict.out} holds other predictions ({'; '.join(changed)}): give another --out, or "
            "remove that folder"
        )
    made = {"command": command_line(), "checkpoint": str(checkpoint), "settings": settings}
    write_text(path, json.dumps(made, indent=1) + "\n")
