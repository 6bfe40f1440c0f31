"""Pictures and tags as people have them, brought into the layout that training reads.

`python -m datalist.arrange PICTURES --out mydata` makes a folder in VOC layout from a folder per
class, or from pictures anywhere below a folder and a table (`--tags`) that says what they show.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from base import UserError
from datalist.check import inspect
from datalist.spec import SUFFIXES, plain, read_classes, resolve
from datalist.tag import from_instances, from_text, indices, read_instances, rows, write_tags


@dataclass
class Picture:
    """An image file, and the names of what it shows."""

    file: Path
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Arguments:
    """Make a folder in VOC layout from pictures and tags as people have them."""

    source: Annotated[Path, tyro.conf.Positional]
    """Folder of pictures (.jpg, .png), at any depth; without --tags it holds a folder per class,
    and pictures beside these folders show none of the classes."""
    out: Path
    """Folder to make; the pictures are linked into it, or copied."""
    tags: Path | None = None
    """.csv (NAME,TAG,TAG), .txt (NAME TAG TAG) or COCO instances .json that names the pictures."""
    classes: Path | None = None
    """classes.txt, background first; default: the tags found, in the order of the alphabet."""


def arrange(arguments: Arguments) -> list[str]:
    """Make the folder, whole or not at all.

    Returns:
        What was left out, a sentence each.

    Errors: UserError where there is nothing to take, a tag is no class, or names are not unique.
    """
    source, out = arguments.source, arguments.out
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} is there already: give the name of a new folder.")
    files, remarks = find_pictures(source)
    if arguments.tags:
        tagged = by_table(files, arguments.tags, arguments.classes, remarks)
    else:
        tagged = by_folder(files, source)
    if arguments.classes:
        classes = read_classes(arguments.classes)
    else:
        names = {plain(tag): tag for picture in tagged.values() for tag in picture.tags}
        names.pop("background", None)
        classes = ("background", *(names[key] for key in sorted(names)))
    tags = {
        name: indices(picture.tags, classes, str(picture.file))
        for name, picture in sorted(tagged.items())
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        for folder in ("JPEGImages", "ImageSets/Segmentation"):
            (part / folder).mkdir(parents=True)
        for name, picture in tagged.items():
            link(picture.file, part / "JPEGImages" / (name + picture.file.suffix.lower()))
        (part / "classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
        ids = "\n".join(tags) + "\n"
        (part / "ImageSets/Segmentation/train.txt").write_text(ids, encoding="utf-8")
        write_tags(part / "tags.csv", tags, classes)
        read_classes(part / "classes.txt")
        part.chmod(0o755)  # unlike what temporary folders have
        os.replace(part, out)
    except UserError as error:
        raise UserError(str(error).replace(str(part), str(out))) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return remarks


def find_pictures(source: Path) -> tuple[list[Path], list[str]]:
    """Image files below a folder in order of their names, and a remark on other files."""
    files = [
        path
        for path in sorted(source.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(source).parts)
    ]
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not pictures:
        raise UserError(f"{source} holds no picture that ends in {', '.join(SUFFIXES)}.")
    other = [path for path in files if path.suffix.lower() in (".webp", ".bmp", ".tif", ".heic")]
    remarks = [f"{len(other)} pictures are no .jpg or .png, such as {other[0]}."] if other else []
    return pictures, remarks


def by_folder(files: Iterable[Path], source: Path) -> dict[str, Picture]:
    """Tags from the folder that each file is in.

    A file that lies in the folders of several classes, with the same name and content, has all
    their tags; other files of one name are told apart by the folder's.
    """
    found: dict[str, Picture] = {}
    for file in files:
        folders = file.relative_to(source).parts[:-1]
        name = make_id(file.stem)
        same = found.get(name)
        if same and not filecmp.cmp(same.file, file, shallow=False):
            name = make_id("_".join([*folders, file.stem]))
            if name in found:
                raise UserError(
                    f"{file} and {found[name].file} would both be '{name}': rename one."
                )
        found.setdefault(name, Picture(file)).tags.extend(folders[:1])
    return found


def by_table(
    files: Iterable[Path], table: Path, classes: Path | None, remarks: list[str]
) -> dict[str, Picture]:
    """Tags from a .csv, .txt or .json; pictures that it does not name are left out."""
    known = read_classes(classes) if classes else ("background", *names_in(table))
    read = from_instances if table.suffix == ".json" else from_text
    tags = read(table, known)
    found: dict[str, Picture] = {}
    unnamed = []
    for file in files:
        if file.stem not in tags:
            unnamed.append(file)
            continue
        name = make_id(file.stem)
        if name in found:
            raise twice(name, file, found[name].file)
        found[name] = Picture(file, [known[index] for index in tags[file.stem]])
    if not found:
        raise UserError(f"{table} names none of the pictures, such as {unnamed[0].name}.")
    if unnamed:
        remarks.append(f"{len(unnamed)} pictures are not in {table}, such as {unnamed[0]}.")
    lost = sorted(tags.keys() - {picture.file.stem for picture in found.values()})
    if lost:
        remarks.append(f"{len(lost)} names of {table} have no picture, such as '{lost[0]}'.")
    return found


def twice(name: str, *files: Path) -> UserError:
    """The refusal of two files that would get one id."""
    return UserError(f"{' and '.join(map(str, files))} would both be '{name}': rename one.")


def names_in(table: Path) -> list[str]:
    """Class names that a table of tags uses, in the order of the alphabet, each once."""
    if table.suffix == ".json":
        words = [row["name"] for row in read_instances(table)["categories"]]
    else:
        fields = [word for _, _, row in rows(table) for word in row]
        words = [part for word in fields for part in word.split(";")]
    names = {plain(word): re.sub(r"[\s_]+", " ", word).strip() for word in words}
    return [names[key] for key in sorted(names) if key not in ("", "background")]


def make_id(name: str) -> str:
    """An image id from the name of a file: what lists and folders cannot hold becomes "_"."""
    return re.sub(r'[\s/\\:*?"<>|,;]+|[^\w\-.+()]+', "_", name).strip("._")[:150] or "_"


def link(file: Path, target: Path) -> None:
    """Have a file under another name too, without its bytes twice where the disk allows."""
    try:
        os.link(file.resolve(), target)
    except OSError:
        shutil.copyfile(file, target)


def main(arguments: Arguments) -> int:
    """Make the folder and check it; 1 where training would fail."""
    try:
        remarks = arrange(arguments)
        report = inspect(resolve(str(arguments.out)), ["train"], os.cpu_count() or 1)
    except (UserError, OSError) as error:
        print(f"error: {error}")
        return 1
    print("".join(f"left out: {remark}\n" for remark in remarks), end="")
    print(report)
    return 1 if report.errors else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments, description=Arguments.__doc__)))
