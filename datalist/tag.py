"""Image-level tags: from VOC annotations, a text file, folders, or COCO json; never from masks.

What is read, first found first, in the folder of the data set:

- `tags.csv`: `ID,TAG,TAG,...`, one image a line (a first line `id,...` is a heading);
- `tags.txt`: `ID TAG TAG ...`, spaces inside a class name written as `_`;
- `tags.json`: COCO instances, as labelling tools export them;
- `tags/CLASS/ID.*`: one folder per class, only the files' names count (copies or links);
- COCO's own json files (data set `coco`);
- `Annotations/ID.xml`: the names of all objects, as VOC writes them.

A line or annotation without any tag is an image of pure background. Objects marked "difficult"
or "crowd" count: a tag says that a class is somewhere in the image, however small.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from xml.parsers import expat

import numpy as np
import tyro

from base import UserError, entry
from datalist.archive import replacing
from datalist.spec import Spec, plain, read_text, resolve, safe_id

Tags = dict[str, tuple[int, ...]]
XML_LIMIT = 1 << 20
"""Bytes of one annotation; VOC's longest is 15 kB."""


def read_tags(spec: Spec, ids: Sequence[str]) -> Tags:
    """Read the tags of images.

    Args:
        spec: the data set.
        ids: image ids.

    Returns:
        Class indices of each id, ascending, 1 to num_classes - 1.

    Errors: UserError for an image without a line or annotation, or a class that the data set
    does not have.
    """
    kind, paths = find(spec)
    if kind == "xml":
        return {name: from_xml(spec.annotation_path(name), spec.classes) for name in ids}
    source = " and ".join(map(str, paths))
    found: Tags = {}
    for path in paths:
        found |= READERS[kind](path, spec.classes)
    if kind == "folders":
        # A folder per class has no place for images without tags: they are in none of them.
        found = {name: found.get(name, ()) for name in ids}
    lost = [name for name in ids if name not in found]
    if lost:
        raise UserError(f"{source} has no tags of {len(lost)} images, the first is '{lost[0]}'.")
    return {name: found[name] for name in ids}


def find(spec: Spec) -> tuple[str, list[Path]]:
    """Find where the tags of a data set are: "text", "folders", "instances" or "xml", and files.

    Errors: UserError where there is nothing to read.
    """
    for name in ("tags.csv", "tags.txt"):
        if (path := spec.root / name).is_file():
            return "text", [path]
    if (path := spec.root / "tags.json").is_file():
        return "instances", [path]
    if (path := spec.root / "tags").is_dir():
        return "folders", [path]
    instances = [path for name in spec.instances if (path := spec.root / name).is_file()]
    if instances:
        return "instances", instances
    if (path := spec.root / spec.annotation).is_dir() and not spec.instances:
        return "xml", [path]
    missing = spec.instances[0] if spec.instances else f"{spec.annotation}/ID.xml"
    raise UserError(f"no tags of {spec.name}: {spec.root / missing} or tags.csv is needed.")


def multi_hot(tags: Iterable[int], num_classes: int) -> np.ndarray:
    """Write class indices as a vector without background.

    Args:
        tags: class indices, 1 to num_classes - 1.
        num_classes: classes, background counted.

    Returns:
        float32 (num_classes - 1,), element k - 1 is 1 where class k is a tag.
    """
    vector = np.zeros(num_classes - 1, np.float32)
    for tag in tags:
        if not 1 <= tag < num_classes:
            raise UserError(f"tag {tag} is not a class index from 1 to {num_classes - 1}.")
        vector[tag - 1] = 1
    return vector


def from_xml(path: Path, classes: Sequence[str]) -> tuple[int, ...]:
    """Read the classes of the objects in a VOC annotation.

    Errors: UserError where the file is missing, too long, no XML, carries a document type or
    entities (they can swell without bound or name other files), or names an unknown class.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(XML_LIMIT + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}.") from None
    if len(data) > XML_LIMIT:
        raise UserError(f"{path} is longer than {XML_LIMIT} bytes: not a VOC annotation.")
    open_elements: list[str] = []
    names: list[str] = []

    def start(element: str, _: object) -> None:
        open_elements.append(element)
        # Parts of an object (head, hand) have a name too, one level further down.
        if open_elements == ["annotation", "object", "name"]:
            names.append("")

    def text(characters: str) -> None:
        if open_elements == ["annotation", "object", "name"]:
            names[-1] += characters

    def end(_: str) -> None:
        open_elements.pop()

    def refuse(*_: object) -> None:
        raise UserError(f"{path} declares a document type or entities, which tags do not need.")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not readable XML: {error}.") from None
    return indices(names, classes, str(path))


def from_text(path: Path, classes: Sequence[str]) -> Tags:
    """Read `tags.csv` (`ID,TAG,TAG`) or `tags.txt` (`ID TAG TAG`).

    In the CSV file a field may also hold several tags, with semicolons or spaces between them.

    Errors: UserError naming the line of an id that is no plain file name or comes twice, or of
    an unknown class.
    """
    found: Tags = {}
    known = {plain(name) for name in classes}
    for where, name, fields in rows(path):
        words: list[str] = []
        for field in fields:
            for part in field.split(";"):
                words += [part] if plain(part) in known else part.split()
        found[name] = indices(words, classes, where)
    return found


def rows(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Read the lines of `tags.csv` or `tags.txt`: where each stands, its image id, its fields.

    Errors: UserError naming the line of an id that is no plain file name or comes twice; or where
    there is no line.
    """
    lines = read_text(path).splitlines()
    try:
        table = list(csv.reader(lines)) if path.suffix == ".csv" else [x.split() for x in lines]
    except csv.Error as error:
        raise UserError(f"{path} is not a readable CSV file: {error}.") from None
    seen: set[str] = set()
    for number, row in enumerate(table, 1):
        if not row or not row[0].strip() or row[0].startswith("#"):
            continue
        if not seen and row[0].strip().casefold() in {"id", "image", "filename"}:
            continue
        where = f"{path}, line {number}"
        try:
            name = safe_id(stem(row[0].strip()))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        if name in seen:
            raise UserError(f"{where}: image '{name}' has a line already.")
        seen.add(name)
        yield where, name, row[1:]
    if not seen:
        raise UserError(f"{path} holds no tags: write ID,TAG,TAG one image a line.")


def from_folders(path: Path, classes: Sequence[str]) -> Tags:
    """Read `tags/CLASS/ID.*`: the names of the files in one folder per class.

    Errors: UserError for a folder that is no class of the data set.
    """
    found: dict[str, set[int]] = {}
    for folder in sorted(path.iterdir()):
        if folder.is_dir() and not folder.name.startswith("."):
            index = indices([folder.name], classes, str(folder))
            for file in folder.iterdir():
                if not file.name.startswith("."):
                    found.setdefault(safe_id(stem(file.name)), set()).update(index)
    return {name: tuple(sorted(indices)) for name, indices in found.items()}


def from_instances(path: Path, classes: Sequence[str]) -> Tags:
    """Read the tags of all annotated images of a COCO instances json.

    Errors: UserError where the file is no such json, or names an unknown class.
    """
    content = read_instances(path)
    names = {}
    for category in content["categories"]:
        names[category["id"]] = indices([str(category["name"])], classes, str(path))
    stems = {image["id"]: image_id(image["file_name"]) for image in content["images"]}
    found: dict[str, set[int]] = {name: set() for name in stems.values()}
    if len(found) < len(content["images"]):
        raise UserError(f"{path} has two images of one name or number: names must differ.")
    for annotation in content["annotations"]:
        image, category = annotation["image_id"], annotation["category_id"]
        if image not in stems or category not in names:
            raise UserError(f"{path}: an annotation names image {image!r}, class {category!r}.")
        found[stems[image]].update(names[category])
    return {name: tuple(sorted(indices)) for name, indices in found.items()}


def read_instances(path: Path) -> dict:
    """Read a COCO instances json and check the fields that are used here.

    Errors: UserError where it is no such json.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not a readable json file: download it again.") from None
    fields = {
        "images": {"id": int, "file_name": str},
        "annotations": {"image_id": int, "category_id": int},
        "categories": {"id": int, "name": str},
    }
    for part, needed in fields.items():
        rows = content.get(part) if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise UserError(f"{path} has no list '{part}': it is not a COCO instances file.")
        for row in rows:
            for key, kind in needed.items():
                if not isinstance(row, dict) or not isinstance(row.get(key), kind):
                    raise UserError(f"{path}: an entry of '{part}' has no {kind.__name__} '{key}'.")
    return content


READERS = {"text": from_text, "folders": from_folders, "instances": from_instances}


def collect(spec: Spec) -> Tags:
    """Read the tags of the images of all splits, but for those (of a test) without annotation."""
    names = list(dict.fromkeys(name for split in spec.lists for name in spec.ids(split)))
    if find(spec)[0] == "xml":
        names = [name for name in names if spec.annotation_path(name).is_file()]
    return read_tags(spec, names)


def write_tags(path: Path, tags: Mapping[str, Iterable[int]], classes: Sequence[str]) -> None:
    """Write `tags.csv`, whole or not at all."""
    with replacing(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "tags"])
        writer.writerows([name, *(classes[k] for k in row)] for name, row in tags.items())


def image_id(file_name: str) -> str:
    """Id of an image that a json names, maybe with folders before it, as labelling tools do.

    Errors: UserError where it is no plain file name, or one of the folders is "..".
    """
    folder, _, name = file_name.rpartition("/")
    return safe_id(file_name if ".." in folder.split("/") else stem(name))


def stem(name: str) -> str:
    """Name of a file without the suffix of an image or a text; other dots stay."""
    front, dot, suffix = name.rpartition(".")
    return front if dot and suffix.casefold() in {"jpg", "jpeg", "png", "xml", "txt"} else name


def indices(names: Iterable[str], classes: Sequence[str], where: str) -> tuple[int, ...]:
    """Indices of class names, ascending, each once, without background.

    Errors: UserError, beginning with `where`, for a name that is none of the classes.
    """
    known = {plain(name): number for number, name in enumerate(classes)}
    found = set()
    for name in names:
        number = known.get(plain(name))
        if number is None:
            some = ", ".join(classes[1:9]) + (", ..." if len(classes) > 9 else "")
            raise UserError(f"{where}: {name[:80]!r} is not one of the classes ({some}).")
        if number:
            found.add(number)
    return tuple(sorted(found))


@dataclass(frozen=True)
class Arguments:
    """Write the tags of a data set into one tags.csv, which is quicker to read than json or XML."""

    dataset: Annotated[str, tyro.conf.Positional]
    """voc, coco, scenes or the path of a folder in VOC layout."""
    root: str | None = None
    """Folder of voc, coco or scenes."""
    out: Path = Path("tags.csv")
    """File to write; put it into the folder of the data set to have it used."""


def main(arguments: Arguments) -> None:
    """Write the tags of every listed image."""
    spec = resolve(arguments.dataset, arguments.root)
    found = collect(spec)
    write_tags(arguments.out, found, spec.classes)
    print(f"{arguments.out}: tags of {len(found)} images")


if __name__ == "__main__":
    with entry("error"):
        main(tyro.cli(Arguments, description=Arguments.__doc__))
