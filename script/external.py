"""Leave the classes of a target data set out of external masks.

python -m script.external EXTERNAL --dataset TARGET --out FOLDER [flags]

Classes of one name are the same, whatever their case. Where the two data sets share some, FOLDER
becomes a data set of the other classes: pixels of shared classes are 255 in its masks, so that they
teach nothing, and images that show shared classes alone are left out. Where they share none, nothing
is written. The last line of output is the folder to learn from.
"""

# First, so that Ctrl-C during the other imports ends in one line.
from base import IGNORE, UserError, entry

# isort: split
import json
import shutil
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from datalist.archive import new_folder
from datalist.image import read_mask, write_mask
from datalist.spec import Spec, plain, resolve
from datalist.tag import read_tags, write_tags
from utils.infer import cores
from utils.inputs import folder_checksums, tag_checksums, total
from utils.output import write_text
from utils.progress import in_threads
from utils.record import command_line, read_record

RECORD = "external.json"


@dataclass(frozen=True)
class Flags:
    """Which classes are left out, and where the rest goes."""

    external: Annotated[Path, tyro.conf.Positional]
    """Folder in VOC layout with masks."""
    out: Path
    """Folder to make. One that this program made of other inputs is replaced."""
    dataset: str = "scenes"
    """Target: scenes, voc, coco, or a folder in VOC layout."""
    root: Path | None = None
    """Where voc, coco or scenes lies, if not in its default place."""
    leave_out: tuple[str, ...] = ()
    """Further classes to leave out, such as those with another name in the target."""
    quiet: bool = False
    """No progress bar."""


def splits(spec: Spec) -> list[str]:
    """The lists to keep, of training and of test images, as far as they exist."""
    return [split for split in ("train", "val") if split in spec.lists]


def classes_to_leave_out(external: Spec, target: Spec, more: tuple[str, ...]) -> list[str]:
    """Foreground classes of `external` that the target has too, and those named in `more`.

    Errors: UserError for a name in `more` that is no class, or where no class would be left.
    """
    known = {plain(name) for name in external.classes[1:]}
    if odd := [name for name in more if plain(name) not in known]:
        names = ", ".join(external.classes[1:])
        raise UserError(f"{external.root} has no class '{odd[0]}'; its classes are {names}")
    shared = {plain(name) for name in (*target.classes, *more)}
    names = [name for name in external.classes[1:] if plain(name) in shared]
    if len(names) == len(external.classes) - 1:
        raise UserError(
            f"all classes of {external.root} are also the target's: give a folder with masks of "
            "other classes"
        )
    return names


def build(external: Spec, names: list[str], flags: Flags, settings: dict) -> int:
    """Make the folder, whole or not at all; returns the number of images.

    Errors: UserError for a missing or damaged mask, or where no image is left.
    """
    classes = tuple(name for name in external.classes if name not in names)
    index = np.full(256, IGNORE, np.uint8)
    for number, name in enumerate(classes):
        index[external.classes.index(name)] = number
    lists, tags = {}, {}
    for split in splits(external):
        lists[split] = []
        for image_id, before in read_tags(external, external.ids(split)).items():
            now = [int(index[k]) for k in before if index[k] != IGNORE]
            if now or not before:
                tags[image_id] = now
                lists[split].append(image_id)
    if not lists.get("train"):
        raise UserError(f"no image of {external.root} train shows {', '.join(classes[1:])}")

    with new_folder(flags.out) as part:
        (part / "ImageSets/Segmentation").mkdir(parents=True)
        (part / "SegmentationClass").mkdir()
        images = (external.root / external.image[0]).resolve()
        (part / "JPEGImages").symlink_to(images, target_is_directory=True)

        def convert(image_id: str) -> None:
            mask = read_mask(external.mask_path(image_id), external.num_classes)
            write_mask(part / "SegmentationClass" / f"{image_id}.png", index[mask])

        deque(in_threads(convert, list(tags), cores(), "masks", flags.quiet), 0)
        write_text(part / "classes.txt", "\n".join(classes) + "\n")
        write_tags(part / "tags.csv", tags, classes)
        for split, ids in lists.items():
            write_text(part / f"ImageSets/Segmentation/{split}.txt", "\n".join(ids) + "\n")
        record = {"command": command_line(), "settings": settings}
        write_text(part / RECORD, json.dumps(record, indent=1) + "\n")
    return len(tags)


def main(flags: Flags) -> None:
    external = resolve(str(flags.external))
    target = resolve(flags.dataset, flags.root)
    names = classes_to_leave_out(external, target, flags.leave_out)
    if not names:
        print(flags.external)
        return
    which = f"external {'class' if len(names) == 1 else 'classes'} {', '.join(names)}"
    print(f"{which}: left out, also of the target")
    ids = list(dict.fromkeys(i for split in splits(external) for i in external.ids(split)))
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
        count = build(external, names, flags, settings)
        print(f"{count} of {len(ids)} images show other classes, or none")
    print(flags.out)


if __name__ == "__main__":
    with entry("script.external"):
        main(tyro.cli(Flags, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)))
