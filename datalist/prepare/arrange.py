"""Brings pictures and tags, as people have them, into the layout that training reads.

`python -m datalist.prepare.arrange PICTURES --out mydata` makes a folder in VOC layout from a
folder per class, from pictures and a table of tags (`--tags`), or from the annotations of a VOC
folder. docs/data.md shows every layout."""

import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import tyro

from base import UserError, entry
from datalist.annotation import parts, stem, xml_names
from datalist.bands import BANDS_FILE, Bands, write_bands
from datalist.folder import new_data_folder, write_csv
from datalist.prepare.bands import measure
from datalist.prepare.check import inspect
from datalist.prepare.exports import keywords, read_export
from datalist.prepare.names import NAMES_FILE, NameIndex, make_id, number_of
from datalist.prepare.pictures import Picture, by_folder, find_pictures, some, twice
from datalist.prepare.table import Layout, Table, TableFlags, read_grid, read_table
from datalist.prepare.tiles import cut_pictures
from datalist.spec import plain, read_classes, read_ids, resolve
from datalist.tag import indices

EXPORTS = {".json", ".jsonl", ".ndjson", ".xml"}
"""Suffixes of files of tags that are not tables."""


class Result(NamedTuple):
    """What `arrange` understood, and what it left out: sentences to print."""

    understood: str
    left_out: list[str]


@dataclass(frozen=True)
class Arguments:
    """Make a folder in VOC layout from pictures and tags as people have them."""

    source: Annotated[Path, tyro.conf.Positional]
    """Folder of pictures, at any depth. Without --tags it holds a folder per class
    (pictures beside these folders are untagged), or is a VOC folder with Annotations."""
    out: Path
    """Folder to make; the pictures are linked into it, or copied."""
    tags: Path | None = None
    """Table (.csv, .tsv, .txt), json (COCO, Label Studio, records), .jsonl, CVAT's .xml or a folder
    of YOLO's labels; docs/data.md lists the layouts."""
    keywords: bool = False
    """Take the keywords that a photo manager wrote into the pictures, or beside them (.xmp)."""
    layout: Layout | None = None
    """What the fields of the table mean, where two readings are possible. columns: every field
    is a tag; words: blanks separate tags; lines: one tag a line; onehot: 0 and 1 below a header of
    classes."""
    tag_columns: tuple[str, ...] = ()
    """Headings, or numbers from 1, of the columns that hold tags; default: those that say so."""
    name_column: str | None = None
    """Heading, or number from 1, of the column that names the pictures; default: the one that names
    the most."""
    at_least: float | None = None
    """From which a number in a column of tags or of confidence says that the class is there."""
    background_folder: tuple[str, ...] | None = None
    """Class folders whose pictures show none of the classes, such as good or no_damage; without a
    name: there are none."""
    untagged: Literal["skip", "background"] = "skip"
    """Pictures without any tag. skip: leave them out; background: they show none of the
    classes. A tag or folder named 'background' says so of single pictures."""
    classes: Path | None = None
    """classes.txt, background first; default: the tags, in alphabetical order."""
    bands: tuple[str, ...] = ()
    """Bands of the pictures that become channels, from 1: three, one, or more, of which the first
    three are shown; all: every band. Default: grey, or red, green and blue."""
    tile: int = 0
    """Cut larger pictures into tiles of so many pixels a side; 0: leave them whole."""
    bags: bool = True
    """Tags of a tiled picture are true of some of its tiles (bags.csv); with --no-bags of every
    tile."""


def arrange(arguments: Arguments) -> Result:
    """Make the folder, whole or not at all.

    Raises:
        UserError: there is nothing to take, a tag is not a class, or names are not unique.
    """
    source, out = arguments.source, arguments.out
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists already: give the name of a new folder")
    if not source.is_dir():
        raise UserError(f"{source} is not a folder: give the folder of your pictures")
    voc = (source / "JPEGImages").is_dir()
    files, left_out = find_pictures(source)
    known = read_classes(arguments.classes) if arguments.classes else None
    if arguments.tags:
        if not arguments.tags.exists():
            raise UserError(f"{arguments.tags} does not exist")
        pictures, understood = by_table(files, arguments, known, left_out)
    elif arguments.keywords:
        words = {file: keywords(file) for file in files}
        rows = [(file.name, tags) for file, tags in words.items()]
        pictures = unique_ids(words, source)
        understood = str(Table(rows, "none (keywords of the pictures)", "lines"))
    elif voc:
        pictures, understood = by_annotations(files, source, left_out)
    else:
        pictures, understood = by_folder(files, source, arguments.background_folder)
    untagged = [name for name, picture in pictures.items() if not picture.tags]
    if len(untagged) == len(pictures):
        raise UserError(f"no picture of {source} has a tag: make class folders, or give --tags")
    what = "without a tag are taken as showing none of the classes"
    if arguments.untagged == "skip":
        pictures = {name: picture for name, picture in pictures.items() if picture.tags}
        what = "without a tag are left out (--untagged background takes them as showing no class)"
    if untagged:
        left_out.append(f"{len(untagged)} pictures {what}: {some(untagged)}.")
    words = dict.fromkeys(tag for picture in pictures.values() for tag in picture.tags)
    if commas := sorted(tag for tag in words if "," in tag):
        left_out.append(f"names of classes hold no commas: {some(commas)} lose theirs.")
    spelled = {tag: re.sub(r"[,\s_]*,[,\s_]*", " ", tag) for tag in words}
    if known is None:
        every = (spelled[tag] for picture in pictures.values() for tag in picture.tags)
        names = {plain(tag): tag for tag in every}
        names.pop("background", None)
        known = ("background", *(names[key] for key in sorted(names)))
    tags = {
        name: indices([spelled[tag] for tag in picture.tags], known, str(picture.file))
        for name, picture in sorted(pictures.items())
    }
    bands, notes = measure([picture.file for picture in pictures.values()], arguments.bands)
    left_out += notes
    with new_data_folder(out, known) as data:
        read_classes(data.root / "classes.txt")
        if bands != Bands():
            write_bands(data.root / BANDS_FILE, bands)
        if arguments.tile:
            cut = cut_pictures(pictures, tags, data, source, arguments.tile, arguments.bags)
            left_out.append(cut)
            return Result(understood, left_out)
        for name, picture in pictures.items():
            link(picture.file, data.image(name, picture.file.suffix.lower()))
        data.tags = tags
        rows = ((name, pictures[name].file.relative_to(source).as_posix()) for name in tags)
        write_csv(data.root / NAMES_FILE, ["id", "file"], rows)
    return Result(understood, left_out)


def by_annotations(
    files: Iterable[Path], source: Path, left_out: list[str]
) -> tuple[dict[str, Picture], str]:
    """Tags from the Annotations of a VOC folder, of the pictures of its train.txt if it has one."""
    lists = [source / "ImageSets" / task / "train.txt" for task in ("Segmentation", "Main")]
    train = next((path for path in lists if path.is_file()), None)
    if train and train.parent.name == "Segmentation" and (source / "classes.txt").is_file():
        raise UserError(
            f"{source} is in VOC layout already: train on it as it is, after "
            f"`python -m datalist.prepare.check {source}`"
        )
    if not (source / "Annotations").is_dir():
        raise UserError(
            f"{source} has JPEGImages as in VOC, but no Annotations to take tags from: give --tags "
            "TABLE, or a folder per class"
        )
    ids = set(read_ids(train)) if train else None
    pictures, missing = {}, []
    for file in files:
        if ids is not None and file.stem not in ids:
            continue
        path = source / "Annotations" / f"{file.stem}.xml"
        if not path.is_file():
            missing.append(file.name)
            continue
        name = make_id(file.stem)
        if name in pictures:
            raise twice(name, file, pictures[name].file)
        pictures[name] = Picture(file, xml_names(path))
    if not pictures:
        raise UserError(f"no picture of {source} has its file in Annotations")
    if missing:
        left_out.append(f"{len(missing)} pictures have no annotation: {some(missing)}.")
    rows = [(picture.file.name, picture.tags) for picture in pictures.values()]
    first = f"layout: VOC; tags from {source / 'Annotations'}, list {train or 'none'}"
    return pictures, f"{first}\n{Table(rows, 'none', 'lines')}"


def by_table(
    files: list[Path], arguments: Arguments, known: tuple[str, ...] | None, left_out: list[str]
) -> tuple[dict[str, Picture], str]:
    """Tags from a table or a json; pictures that it does not name are left out."""
    path, source = arguments.tags, arguments.source
    paths = {file.relative_to(source).as_posix(): file for file in files}
    index = NameIndex({name: [name] for name in paths})
    answers = {field.name: getattr(arguments, field.name) for field in fields(TableFlags)}
    flags = TableFlags(**answers)
    if path.is_dir() or path.suffix.casefold() in EXPORTS:
        rows = read_export(path)
        if rows and isinstance(rows[0], list):
            table = read_grid(path, rows, index, known, flags)
            table.separator = "none (json)"
        else:
            table = Table(rows, f"none ({path.suffix[1:] or 'YOLO'})", "lines")
    else:
        table = read_table(path, index, known, flags)
    left_out += table.notes
    matched: dict[str, list[str]] = {}
    lost = []
    written: dict[str, str] = {}
    for name, tags in table.rows:
        picture = index.find(name)
        if picture is None:
            lost.append(name)
            continue
        other = written.setdefault(picture, name)
        if spelling(other) != spelling(name):
            raise UserError(
                f"{path}: '{other[:80]}' and '{name[:80]}' would both be the picture '{picture}': "
                "give the folder that holds both pictures, or take one of the names out"
            )
        matched.setdefault(picture, []).extend(tags)
    zeros = [name for picture, name in written.items() if lost_zeros(name, paths[picture])]
    if zeros:
        left_out.append(
            f"{len(zeros)} names of {path} have lost the zeros before their numbers and are "
            f"matched by the number: {some(zeros)}."
        )
    if not matched:
        raise UserError(
            f"{path} names none of the pictures: it has {some(lost)}, the pictures are called "
            f"{some(sorted(paths))}"
        )
    if unnamed := [name for name in paths if name not in matched]:
        left_out.append(f"{len(unnamed)} pictures are not in {path}: {some(unnamed)}.")
    if lost:
        left_out.append(f"{len(lost)} names of {path} have no picture: {some(lost)}.")
    table.rows = list(matched.items())
    return unique_ids({paths[name]: tags for name, tags in matched.items()}, source), str(table)


def lost_zeros(name: str, file: Path) -> bool:
    """Whether a name is the number of a file, written in another way."""
    last = (parts(name) or [""])[-1]
    numbers = number_of(last) is not None and number_of(file.name) is not None
    return numbers and make_id(stem(last)) != make_id(file.stem)


def spelling(name: str) -> str:
    """A name with its folders, without suffix and case: what is equal in it is one picture."""
    *folders, last = parts(name) or [name]
    return "/".join((*folders, stem(last))).casefold()


def unique_ids(tags: dict[Path, list[str]], source: Path) -> dict[str, Picture]:
    """Pictures by an id each: the file name, with folders before it where several share it."""
    count = Counter(make_id(file.stem) for file in tags)
    pictures: dict[str, Picture] = {}
    for file, words in tags.items():
        name = make_id(file.stem)
        if count[name] > 1:
            name = make_id("_".join([*file.relative_to(source).parts[:-1], file.stem]))
        if name in pictures:
            raise twice(name, file, pictures[name].file)
        pictures[name] = Picture(file, words)
    return pictures


def link(file: Path, target: Path) -> None:
    """Give a file a second name; copy it where the disk has no hard links."""
    try:
        os.link(file.resolve(), target)
    except OSError:
        shutil.copyfile(file, target)


def main(arguments: Arguments) -> int:
    """Make the folder and check it; 1 where training would fail."""
    result = arrange(arguments)
    print(result.understood, *(f"note: {sentence}" for sentence in result.left_out), sep="\n")
    print(report := inspect(resolve(str(arguments.out)), ["train"], os.cpu_count() or 1))
    return 1 if report.errors else 0


if __name__ == "__main__":
    with entry():
        sys.exit(main(tyro.cli(Arguments, description=Arguments.__doc__)))
