"""Leave the classes of a target data set out of external masks.

python -m script.external EXTERNAL --dataset TARGET --out FOLDER [flags]

Classes of one name are the same, whatever their case. Where the two data sets share some, FOLDER
gets the training images of the other classes: pixels of shared classes are 255 in its masks, so
that they teach nothing, and images that show shared classes alone are left out. Where they share
none, nothing is written. The output is the folder to learn from.
"""

import json
import shutil
import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from base import IGNORE, UserError, entry
from base.file import write_text
from datalist.folder import new_data_folder
from datalist.image import read_mask, write_mask
from datalist.spec import Spec, plain, resolve
from datalist.tag import read_tags
from utils.checksum import folder_checksums, tag_checksums, total
from utils.flags import DatasetFlags
from utils.machine import cores
from utils.progress import in_threads
from utils.record import command_line, read_record

RECORD = "external.json"


@dataclass(frozen=True)
class Flags(DatasetFlags):
    """Which classes are left out, and where the rest goes."""

    external: Annotated[Path, tyro.conf.Positional]
    """Folder in VOC layout with masks."""
    out: Path
    """Folder to make. One that this program made of other inputs is replaced."""
    leave_out: tuple[str, ...] = ()
    """Further classes to leave out, such as those with another name in the target."""
    keep: bool = False
    """Leave no class out because it is shared."""
    quiet: bool = False
    """No progress bar."""


def common(spec: Spec, names: Iterable[str]) -> list[str]:
    """Foreground classes of a data set that are among names, spelled as it does."""
    spelled = {plain(name) for name in names}
    return [name for name in spec.classes[1:] if plain(name) in spelled]


def build(external: Spec, names: list[str], flags: Flags, settings: dict) -> None:
    """Make the folder, whole or not at all."""
    classes = tuple(name for name in external.classes if name not in names)
    index = np.full(256, IGNORE, np.uint8)
    index[[external.classes.index(name) for name in classes]] = range(len(classes))
    before = read_tags(external, external.ids("train"))
    tags = {i: [int(index[k]) for k in row if index[k] != IGNORE] for i, row in before.items()}
    tags = {image_id: row for image_id, row in tags.items() if row or not before[image_id]}
    if not any(tags.values()):
        raise UserError(f"no image of {external.root} shows {', '.join(classes[1:])}")

    images = external.root / external.image[0]
    with new_data_folder(flags.out, classes, images) as data:

        def convert(image_id: str) -> None:
            mask = read_mask(external.mask_path(image_id), external.num_classes)
            write_mask(data.mask(image_id), index[mask])

        deque(in_threads(convert, list(tags), cores(), "masks", flags.quiet), 0)
        data.tags = tags
        record = {"command": command_line(), "settings": settings}
        write_text(data.root / RECORD, json.dumps(record, indent=1) + "\n")


def main(flags: Flags) -> None:
    external = resolve(str(flags.external))
    target = resolve(flags.dataset, flags.root)
    known = {plain(name) for name in external.classes[1:]}
    if odd := [name for name in flags.leave_out if plain(name) not in known]:
        names = ", ".join(external.classes[1:])
        raise UserError(f"{external.root} has no class '{odd[0]}'; its classes are {names}")

    shared = common(external, target.classes)
    dropped = common(external, [*flags.leave_out, *([] if flags.keep else shared)])
    if dropped:
        make(external, dropped, flags)
    if shared:  # for people; the standard output is for the chain
        verb = "kept" if flags.keep else "left out"
        told = f"external classes that are also the target's, {verb}: {', '.join(shared)}"
        print(told, file=sys.stderr)
    print(flags.out if dropped else flags.external)


def make(external: Spec, names: list[str], flags: Flags) -> None:
    """Make the folder, if it is not there already."""
    if len(names) == len(external.classes) - 1:
        raise UserError(
            f"all classes of {external.root} are the target's or left out: give a folder with "
            "masks of other classes"
        )
    ids = external.ids("train")
    settings = {
        "external": str(external.root.resolve()),
        "left_out": names,
        "tags": total(tag_checksums(read_tags(external, ids))),
        "masks": total(folder_checksums(external.mask_folder, ids, ".png")),
    }
    before = read_record(flags.out / RECORD)
    if before.get("settings") != settings:
        if before:
            shutil.rmtree(flags.out)
        build(external, names, flags, settings)


if __name__ == "__main__":
    with entry():
        main(tyro.cli(Flags, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)))
