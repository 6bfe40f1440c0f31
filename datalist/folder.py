"""Writes a data set as a folder in VOC layout, which appears whole or not at all."""

import csv
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from base.file import new_folder, replacing

LISTS = "ImageSets/Segmentation"
WRONG = "wrong"
"""What the column `mask` of tags.csv says of a mask that must not be learned."""


@dataclass
class DataFolder:
    """A data set that is being written."""

    root: Path
    tags: dict[str, Iterable[int]] = field(default_factory=dict)
    """Class indices of each image id; written as tags.csv, if there are any."""
    lists: dict[str, list[str]] = field(default_factory=dict)
    """Image ids of each split; default: `train`, the ids of `tags`."""

    def image(self, image_id: str, suffix: str = ".jpg") -> Path:
        """File of an image."""
        return self.root / "JPEGImages" / (image_id + suffix)

    def mask(self, image_id: str) -> Path:
        """File of a mask."""
        return self.root / "SegmentationClass" / f"{image_id}.png"


@contextmanager
def new_data_folder(
    out: Path, classes: Sequence[str], images: Path | None = None
) -> Iterator[DataFolder]:
    """Give the folder of a data set, to be filled; it becomes `out` at the end.

    Args:
        images: folder of images to link to instead of writing images.

    Raises:
        UserError: `out` exists and is not an empty folder.
    """
    with new_folder(out) as part:
        data = DataFolder(part)
        (part / LISTS).mkdir(parents=True)
        if images is None:
            (part / "JPEGImages").mkdir()
        else:
            (part / "JPEGImages").symlink_to(images.resolve(), target_is_directory=True)
        write_lines(part / "classes.txt", classes)
        yield data
        if data.tags:
            write_tags(part / "tags.csv", data.tags, classes)
        for split, ids in (data.lists or {"train": list(data.tags)}).items():
            write_lines(part / LISTS / f"{split}.txt", ids)


def write_tags(
    path: Path,
    tags: Mapping[str, Iterable[int]],
    classes: Sequence[str],
    wrong: Collection[str] = (),
) -> None:
    """Write `tags.csv`, whole or not at all: a header `id,tags`, then `ID,TAG;TAG`.

    The tag of an image that shows none of the classes is the background's name. `wrong` are the
    images whose masks a person marked; they have a third column.
    """
    rows = [[name, ";".join(classes[k] for k in row) or classes[0]] for name, row in tags.items()]
    if wrong:
        rows = [[*row, WRONG if row[0] in wrong else ""] for row in rows]
    write_csv(path, ["id", "tags", "mask"] if wrong else ["id", "tags"], rows)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table of text with a header, whole or not at all."""
    with replacing(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of text."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
