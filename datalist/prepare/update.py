"""Makes a data set from a folder of pictures, and brings it up to date when the folder changed.

    python -m datalist.prepare.update PICTURES --out OUT/data [flags of datalist.prepare.arrange]

The first time the folder is arranged. Later this says which pictures were added, removed, replaced
or moved, and makes OUT/data again: tags that were corrected in it, masks and lists stay. The old
one goes to OUT/old-N, and the empty file OUT/.changed says that networks have to be trained again.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import tyro

from base import UserError, entry
from base.file import file_checksum, set_aside, write_text
from datalist.folder import LISTS, write_lines, write_tags
from datalist.prepare.arrange import Arguments, arrange, link
from datalist.prepare.names import NAMES_FILE, read_names
from datalist.prepare.pictures import find_pictures, some
from datalist.spec import Spec, plain, resolve
from datalist.tag import indices, read_tags, wrong_masks

RECORD = "arranged.json"
CHANGED = ".changed"
Stamps = dict[str, list[int]]
"""Size in bytes and time of change in nanoseconds of each file."""


class Origin(NamedTuple):
    """Where a picture of the data set came from."""

    file: str
    """Below the folder of pictures."""
    checksum: int
    tags: tuple[str, ...] | None
    """Names; None: unknown, as an older version wrote no record."""


@dataclass(frozen=True)
class Record:
    """What a data set was made from."""

    source: str
    flags: list[str]
    stamps: Stamps
    pictures: dict[str, Origin]

    def write(self, path: Path) -> None:
        """Write the record as json, whole or not at all."""
        write_text(path, json.dumps(vars(self)) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Record | None":
        """Read a record; None where there is none that can be read."""
        try:
            content = json.loads(path.read_text("utf-8"))
            pictures = {
                name: Origin(file, checksum, tuple(tags))
                for name, (file, checksum, tags) in content["pictures"].items()
            }
            return cls(content["source"], content["flags"], content["stamps"], pictures)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


def stamps_of(arguments: Arguments) -> Stamps:
    """Stamps of the pictures and of the table of tags."""
    source = arguments.source
    files, _ = find_pictures(source)
    extra = [path for path in (arguments.tags, arguments.classes) if path]
    if (source / "JPEGImages").is_dir():
        extra += sorted((source / "Annotations").glob("*.xml"))
    status = {os.path.relpath(path, source): path.stat() for path in [*files, *extra]}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in status.items()}


def take_stock(data: Path, words: dict[str, tuple[str, ...]] | None) -> dict[str, Origin]:
    """The pictures of an arranged data set; `words` are the names of their tags, where known."""
    files = {path.stem: path for path in (data / "JPEGImages").iterdir()}
    names = {name: file for name, file in read_names(data / NAMES_FILE).items() if name in files}
    with ThreadPoolExecutor(8) as pool:
        checksums = list(pool.map(file_checksum, [files[name] for name in names]))
    return {
        name: Origin(file, checksum, None if words is None else words.get(name, ()))
        for (name, file), checksum in zip(names.items(), checksums)
    }


def tag_words(spec: Spec) -> dict[str, tuple[str, ...]]:
    """Names of the tags of every listed picture."""
    tags = read_tags(spec, spec.every_id())
    return {name: tuple(spec.classes[k] for k in row) for name, row in tags.items()}


def compare(
    before: dict[str, Origin], now: dict[str, Origin]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Old id of each picture that was there, by content, then by name; changed files by a title."""
    by_checksum = {origin.checksum: name for name, origin in before.items()}
    by_file = {origin.file: name for name, origin in before.items()}
    origin: dict[str, str] = {}
    titles = ("added", "removed", "replaced", "moved or renamed", "with other tags in the folder")
    added, removed, replaced, moved, tagged = groups = [[] for _ in titles]
    for name, picture in now.items():
        old = by_checksum.get(picture.checksum) or by_file.get(picture.file)
        if name in before and before[name].checksum == picture.checksum:
            old = name
        if old is None:
            added.append(picture.file)
            continue
        origin[name] = old
        earlier = before[old]
        if earlier.checksum != picture.checksum:
            replaced.append(picture.file)
        elif earlier.file != picture.file or old != name:
            moved.append(picture.file)
        if earlier.tags is not None and earlier.tags != picture.tags:
            tagged.append(picture.file)
    removed += sorted(before[name].file for name in before.keys() - origin.values())
    return origin, {title: files for title, files in zip(titles, groups) if files}


def merge(
    data: Path, new: Path, before: dict[str, Origin], now: dict[str, Origin], origin: dict[str, str]
) -> list[str]:
    """Bring what people changed in the old data set into the folder `new`; sentences to print."""
    notes = []
    spec = resolve(str(data))
    current = tag_words(spec)
    words = {name: picture.tags or () for name, picture in now.items()}
    corrected = {
        name: current[old]
        for name, old in origin.items()
        if old in current and current[old] != before[old].tags
    }
    if corrected and any(picture.tags is not None for picture in before.values()):
        notes.append(f"tags of {len(corrected)} pictures that were corrected in {data} stay")
    words |= corrected

    has_masks = (data / "SegmentationClass").is_dir()  # their pixels are numbers of classes
    first = (*(spec.classes if has_masks else ()), *resolve(str(new)).classes)
    spelled: dict[str, str] = {}
    for word in (*first, *(word for row in corrected.values() for word in row)):
        spelled.setdefault(plain(word), word)
    known = list(spelled.values())
    write_lines(new / "classes.txt", known)
    replaced = {n for n, old in origin.items() if before[old].checksum != now[n].checksum}
    marked = wrong_masks(spec)
    wrong = {n for n, old in origin.items() if old in marked and n not in replaced}
    tags = {name: indices(row, known) for name, row in words.items()}
    write_tags(new / "tags.csv", tags, known, wrong)

    # A picture that people took off the lists stays off; new ones are to learn from.
    lists = {split: spec.ids(split) for split in spec.lists}
    listed = {name for ids in lists.values() for name in ids}
    copies: dict[str, list[str]] = {}
    for name, old in origin.items():
        copies.setdefault(old, []).append(name)
    for split, ids in lists.items():
        kept = [name for old in ids for name in copies.get(old, [] if old in before else [old])]
        if split == "train":
            kept += [name for name in now if name not in origin]
        write_lines(new / LISTS / f"{split}.txt", kept)
    if off := [name for name in before if name not in listed]:
        notes.append(f"{len(off)} pictures that no list of {data} names stay off the lists")

    if left := carry(data, new, before.keys(), copies, replaced):
        notes.append(f"masks of replaced pictures are only in the old folder: {some(left)}")
    return notes


def carry(
    data: Path, new: Path, arranged: Set[str], copies: dict[str, list[str]], replaced: Set[str]
) -> list[str]:
    """Link what people added, such as masks, into the new data set; files of other content now."""
    own = {"tags.csv", NAMES_FILE, "classes.txt", RECORD}
    left = []
    for path in sorted(path for path in data.rglob("*") if path.is_file()):
        relative = path.relative_to(data)
        is_list = relative.parent.as_posix() == LISTS
        is_picture = relative.parts[0] == "JPEGImages" and path.stem in arranged
        if relative.as_posix() in own or is_list or is_picture:
            continue
        for name in copies.get(path.stem, []) if path.stem in arranged else [path.stem]:
            if name in replaced:
                left.append(relative.as_posix())
                continue
            target = new / relative.with_name(name + path.suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # such as bands.json, which people may have changed
            link(path, target)
    return left


def update(arguments: Arguments, flags: list[str]) -> None:
    """Make the data set, or bring it up to date; `flags` are those of the arrangement.

    Raises:
        UserError: as of `arrange`; tiles are asked for; or the data set is that of another folder.
    """
    data, source = arguments.out, arguments.source
    if arguments.tile:
        raise UserError(
            "--tile: tiles do not follow changes of their pictures; make them with `python -m "
            "datalist.prepare.arrange`, and train on its folder: DATASET=FOLDER bash script/sec.sh"
        )
    ready = data.with_name(f".{data.name}.new")
    if ready.exists() and not data.exists():  # a stop between two renamings
        os.replace(ready, data)
    shutil.rmtree(ready, ignore_errors=True)
    before = Record.read(data / RECORD) if data.exists() else None
    if before and not flags and before.flags:
        print(f"arranged with {' '.join(before.flags)}, as before")
        arguments, flags = read_arguments([str(source), "--out", str(data), *before.flags])
    stamps = stamps_of(arguments)
    if before and (before.stamps, before.flags) == (stamps, flags):
        print(f"{source}: {len(before.pictures)} pictures, none changed")
        return
    data.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{data.name}.", dir=data.parent) as folder:
        new = Path(folder) / data.name
        result = arrange(replace(arguments, out=new))
        now = take_stock(new, tag_words(resolve(str(new))))
        record = Record(str(source.resolve()), flags, stamps, now)
        record.write(new / RECORD)
        if not data.exists():
            os.replace(new, data)
            print_result(result.understood, result.left_out)
            return
        if before is None:
            print(
                f"{data} has no record of its pictures, as an older version made it: they are "
                "compared by name and content, and its tags stay"
            )
        stock = before.pictures if before else take_stock(data, None)
        origin, groups = compare(stock, now)
        sentences = [f"{len(names)} pictures {t}: {some(names)}" for t, names in groups.items()]
        if not sentences:
            record.write(data / RECORD)
            print(f"{source}: {len(now)} pictures, none changed")
            return
        if not origin and before and before.source != record.source:
            raise UserError(
                f"{data} was made from {before.source}, and {source} has none of its pictures: "
                "give another OUT"
            )
        print_result(result.understood, [*result.left_out, *sentences])
        notes = merge(data, new, stock, now, origin)
        os.replace(new, ready)
    (data.parent / CHANGED).touch()
    old = set_aside(data.parent, [data.name])
    os.replace(ready, data)
    print_result(f"{data} is made again; the old one is in {old}", notes)


def print_result(line: str, notes: Sequence[str]) -> None:
    """Print what was understood, and notes below."""
    print(line, *(f"note: {sentence.rstrip('.')}." for sentence in notes), sep="\n")


@dataclass(frozen=True)
class Folders:
    """Those of the flags that do not say how pictures are arranged."""

    source: tyro.conf.Positional[Path]
    out: Path


def read_arguments(words: list[str]) -> tuple[Arguments, list[str]]:
    """Flags of `arrange`, and the words among them that are not the folders."""
    arguments = tyro.cli(Arguments, args=words, description=__doc__)
    return arguments, tyro.cli(Folders, args=words, return_unknown_args=True)[1]


if __name__ == "__main__":
    with entry():
        update(*read_arguments(sys.argv[1:]))
