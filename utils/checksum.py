"""Checksums of what a run learned from, so that a later run knows what changed since.

`Checksums` holds, for each input ("tags", "cues", ...), a checksum for each image or file.
"""

import os
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from base.file import file_checksum

if TYPE_CHECKING:
    from base.contract import Stage
    from datalist.dataset import Images

Checksums = dict[str, dict[str, int]]
LIST = "list of images"
TAIL = 1024
"""Bytes from the end of a file. A PNG ends with the checksum of its pixels, an .npz with those of
its arrays, a JPEG with compressed pixels, so that size and tail change with the content."""


def tail_checksum(path: Path) -> int:
    """CRC-32 of the size and the last bytes of a file; 0 where there is no such file."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - TAIL))
            return zlib.crc32(file.read(), size)
    except FileNotFoundError:
        return 0


def folder_checksums(folder: Path, ids: Iterable[str], suffix: str) -> dict[str, int]:
    """Checksum of FOLDER/ID.suffix for each image id."""
    return tail_checksums({image_id: folder / f"{image_id}{suffix}" for image_id in ids})


def tail_checksums(paths: Mapping[str, Path]) -> dict[str, int]:
    """Checksum of the file of each image id."""
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(paths, pool.map(tail_checksum, paths.values())))


def total(checksums: dict[str, int]) -> str:
    """One checksum of many, as eight hexadecimal digits."""
    return f"{zlib.crc32(repr(sorted(checksums.items())).encode()):08x}"


def of_images(data: "Images") -> Checksums:
    """Checksums of the list, pictures, tags, cues and masks that a data set of samples reads."""
    checksums: Checksums = {LIST: dict.fromkeys(data.ids, 0)}
    checksums["pictures"] = tail_checksums({name: data.spec.image_path(name) for name in data.ids})
    if data.tags is not None:
        checksums["tags"] = tag_checksums(data.tags)
    if data.bags is not None:
        checksums["bags"] = dict(zip(data.ids, data.bags.tolist()))
    if (cues := data.cue) is not None:
        checksums["cues"] = {
            name: zlib.crc32(cues.cell[cues.offset[row] : cues.offset[row + 1]].tobytes())
            for name, row in ((name, cues.row[name]) for name in data.ids)
        }
    if data.mask is not None:
        wrong = dict.fromkeys(data.wrong.intersection(data.ids), 0)
        checksums["masks"] = folder_checksums(data.mask, data.ids, ".png") | wrong
    return checksums


def tag_checksums(tags: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Checksum of each image's class indices."""
    return {name: zlib.crc32(bytes(row)) for name, row in tags.items()}


def of_stage(stage: "Stage", data: Any) -> Checksums:
    """Checksums of the data `stage.dataset()` gave, and of the files that the recipe names."""
    from datalist.dataset import Images  # imports torch, which reports need not
    from utils.checkpoint import flatten

    checksums = of_images(data) if isinstance(data, Images) else {}
    values = {k: v for k, v in flatten(stage.recipe).items() if isinstance(v, str) and k != "cue"}
    for name, path in zip(values, map(Path, values.values())):
        if path.suffix and path.is_file():
            checksums[name] = {path.name: file_checksum(path)}
    return checksums


def summary(checksums: Checksums) -> dict[str, dict[str, Any]]:
    """What recipe.json says of inputs: number of images or files, and one checksum."""
    return {name: {"count": len(row), "checksum": total(row)} for name, row in checksums.items()}


def changes(before: Any, now: Checksums) -> list[str]:
    """Checksums that differ, such as "tags of 2 of 30 images".

    `before`, of a checkpoint, may be anything; inputs that it does not know do not count.
    """
    if not isinstance(before, dict):
        return []
    sentences = []
    for name, checksums in now.items():
        stored = before.get(name)
        if not isinstance(stored, dict) or stored == checksums:
            continue
        common = checksums.keys() & stored.keys()
        changed = sum(checksums[key] != stored[key] for key in common)
        if name == LIST:
            added, removed = len(checksums.keys() - common), len(stored.keys() - common)
            parts = [f"{added} added"] * bool(added) + [f"{removed} removed"] * bool(removed)
            sentences.append(f"{name}: {', '.join(parts)}")
        elif name not in ("pictures", "tags", "bags", "cues", "masks"):
            sentences.append(f"the file of --{name.replace('_', '-')}")
        elif changed:
            what = "content" if name == "pictures" else name
            sentences.append(f"{what} of {changed} of {len(checksums)} images")
    return sentences
