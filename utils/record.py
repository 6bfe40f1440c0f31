"""The record of a folder: the command that wrote it, and the settings that decide its content."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from base import UserError
from base.file import set_aside, write_text
from utils import checksum
from utils.cover import TABLE
from utils.output import SUFFIX

if TYPE_CHECKING:
    from base.contract import Stage

Tags = Mapping[str, tuple[int, ...]]
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


def origin_of(dataset: str, root: str, split: str, classes: Sequence[str]) -> dict[str, Any]:
    """What a record says of the images and classes of its files."""
    return {"dataset": dataset, "root": root, "split": split, "classes": list(classes)}


def read_origin(folder: Path) -> dict[str, Any]:
    """What `origin_of` wrote to a folder of test.py or pseudo.py; empty where nothing is known."""
    for name in ("predict.json", "pseudo.json"):
        record = read_record(folder / name)
        if "dataset" in record:
            return {key: record.get(key) for key in ("dataset", "root", "split", "classes")}
        # Records of earlier versions have the command and the checkpoint alone.
        words = shlex.split(record.get("command", ""))
        flags = {word: value for word, value in pairwise(words) if word.startswith("--")}
        origin = {key: flags.get(f"--{key}") for key in ("dataset", "root", "split")}
        path = Path(record.get("checkpoint", ""))
        if not origin["dataset"] and path.is_file():
            from utils.checkpoint import load  # imports torch

            data = load(path)["recipe"].get("data", {})
            origin |= {"dataset": data.get("dataset"), "root": data.get("root")}
        if origin["dataset"]:
            return origin
    return {}


def keep_settings(predict: Any, checkpoint: Path, stage: "Stage", tags: Tags) -> None:
    """Write how a folder's predictions are computed to OUT/predict.json, as `keep_record` does.

    `stage` holds the network of the checkpoint; `tags` are empty where they have no part in it.

    Raises:
        UserError: as of `keep_record`.
    """
    settings = {k: v for k, v in asdict(predict).items() if k not in NEUTRAL}
    settings["network"] = f"{checksum.file_checksum(checkpoint):08x}"
    if tags:
        settings["tags"] = checksum.total(checksum.tag_checksums(tags))
    data = stage.recipe.data
    origin = origin_of(data.dataset, data.root, predict.split, stage.spec.classes)
    more, defaults = {"checkpoint": str(checkpoint), **origin}, asdict(type(predict)())
    keep_record(predict.out / "predict.json", settings, predict.fresh, more, defaults)


def keep_record(path: Path, settings: dict, fresh: bool, more: dict, defaults: dict) -> None:
    """Write the settings behind the files of a folder; compare with those of the files there.

    Files that are whole are not written again, so other settings would give a mixture: `fresh`
    moves these files to OUT/old-N. A record of an earlier version may lack values of `defaults`.

    Raises:
        UserError: names the settings that differ, without `fresh`.
    """
    # As in the file, where tuples are lists.
    settings, defaults = json.loads(json.dumps([settings, defaults], default=str))
    before = read_record(path).get("settings", settings)
    before = defaults | before if isinstance(before, dict) else {}
    changed = [
        f"{name}: {before.get(name)} -> {settings.get(name)}"
        for name in sorted(before.keys() | settings.keys())
        if name not in NEUTRAL and before.get(name) != settings.get(name)
    ]
    if changed:
        difference = f"{path.parent} holds other files ({'; '.join(changed)})"
        if not fresh:
            raise UserError(
                f"{difference}: add --fresh to keep them in {path.parent}/old-N and compute "
                "them again (for a chain set FRESH=1), or give another --out"
            )
        print(f"{difference}: moved to {set_aside(path.parent, (*SUFFIX, TABLE, path.name))}")
    record = {"command": command_line(), **more, "settings": settings}
    write_text(path, json.dumps(record, indent=1) + "\n")
