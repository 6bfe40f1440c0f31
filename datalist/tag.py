"""Image-level tags: from VOC annotations, a text file, folders, or COCO json; never from masks.

The first of these that the folder of the data set has is read:

- `tags.csv`: a header `id,tags`, then one image a line: `ID,TAG;TAG`. Also read: `ID,TAG,TAG`, and
  `ID,TAG TAG` where the whole field is not a class name. A header `id,tags,mask` adds a column that
  is empty, or `wrong` where the mask that a network made of the image is (see `wrong_masks`);
- `tags.txt`: `ID TAG TAG ...`, spaces inside a class name written as `_`;
- `tags.json`: COCO instances, as labelling tools export them;
- `tags/CLASS/ID.*`: one folder per class; only the names of the files count (copies or links);
- COCO's own json files (data set `coco`);
- `Annotations/ID.xml`: the names of all objects, as VOC writes them.

An image without any tag in its line or annotation shows none of the classes. Objects marked
"difficult" or "crowd" count: a tag says that a class is somewhere in the image, however small.
Tables of other layouts become such a folder by `python -m datalist.prepare.arrange`.
"""

import csv
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from base import UserError
from datalist.annotation import image_id, objects_of, read_instances, stem, xml_names
from datalist.folder import WRONG
from datalist.spec import Spec, plain, read_text, safe_id

Tags = dict[str, tuple[int, ...]]
NAME_HEADERS = {
    *("id", "image", "images", "filename", "file", "file_name", "file name", "name", "path"),
    *("image_id", "imageid", "image_name", "image id", "image name", "img", "picture", "photo"),
}
TAG_HEADERS = {
    *("tag", "tags", "label", "labels", "class", "classes", "class_name", "category"),
    *("categories", "choice", "choices", "keyword", "keywords"),
}
NO_TAG = {"", "-", "--", "–", "none", "n/a", "na", "nan", "null"}


def read_tags(spec: Spec, ids: Sequence[str]) -> Tags:
    """Read the tags of images: class indices of each id, ascending, 1 to num_classes - 1.

    Raises:
        UserError: an image without a line or annotation, or a class that the data set does not
            have.
    """
    source, paths = find(spec)
    if source == "xml":
        return {name: from_xml(spec.annotation_path(name), spec.classes) for name in ids}
    tags: Tags = {}
    for path in paths:
        tags |= READERS[source](path, spec.classes)
    if source == "folders":
        # An image without tags is in none of the class folders.
        tags = {name: tags.get(name, ()) for name in ids}
    if lost := [name for name in ids if name not in tags]:
        files = " and ".join(map(str, paths))
        raise UserError(f"{files} has no tags of {len(lost)} images, the first is '{lost[0]}'")
    return {name: tags[name] for name in ids}


def find(spec: Spec) -> tuple[str, list[Path]]:
    """Find where the tags of a data set are: "text", "folders", "instances" or "xml", and files."""
    for name in ("tags.csv", "tags.txt"):
        if (path := spec.root / name).is_file():
            return "text", [path]
    if (path := spec.root / "tags.json").is_file():
        return "instances", [path]
    if (path := spec.root / "tags").is_dir():
        return "folders", [path]
    if instances := [path for name in spec.instances if (path := spec.root / name).is_file()]:
        return "instances", instances
    if (path := spec.root / spec.annotation).is_dir() and not spec.instances:
        return "xml", [path]
    missing = spec.instances[0] if spec.instances else f"{spec.annotation}/ID.xml"
    raise UserError(f"no tags of {spec.name}: {spec.root / missing} or tags.csv is needed")


def multi_hot(tags: Iterable[int], num_classes: int) -> np.ndarray:
    """Class indices, 1 to num_classes - 1, as a vector, float32 (num_classes - 1,)."""
    vector = np.zeros(num_classes - 1, np.float32)
    for tag in tags:
        if not 1 <= tag < num_classes:
            raise UserError(f"tag {tag} is not a class index from 1 to {num_classes - 1}")
        vector[tag - 1] = 1
    return vector


def from_xml(path: Path, classes: Sequence[str]) -> tuple[int, ...]:
    """Read the classes of the objects in a VOC annotation."""
    return indices(xml_names(path), classes, str(path))


def from_text(path: Path, classes: Sequence[str], faults: list[str] | None = None) -> Tags:
    """Read `tags.csv` (`ID,TAG;TAG`) or `tags.txt` (`ID TAG TAG`).

    Args:
        faults: takes a sentence for each wrong line, which is then left out.

    Raises:
        UserError: there is no line; without `faults` also naming the line of an id that is not a
            plain file name or comes twice, or of an unknown class.
    """
    lines = read_text(path).splitlines()
    is_csv = path.suffix == ".csv"
    try:
        rows = list(csv.reader(lines, skipinitialspace=True) if is_csv else map(str.split, lines))
    except csv.Error as error:
        raise UserError(f"{path} is not a readable CSV file: {error}") from None
    known = {plain(name) for name in classes}
    tags: Tags = {}
    columns = None  # of tags, where a column of masks follows them
    for number, row in enumerate(rows, 1):
        if not row or not row[0].strip() or row[0].startswith("#"):
            continue
        if not tags and is_header(row):
            columns = 2 if names_masks(row) else None
            continue
        try:
            name = safe_id(stem(row[0].strip()))
            if name in tags:
                raise UserError(f"image '{name}' has a line already")
            if columns and row[2:] not in ([], [""], [WRONG]):
                raise UserError(f"write ID,TAG;TAG, or ID,TAG;TAG,{WRONG}")
            words = [tag for field in row[1:columns] for tag in tags_of(field, True, known)]
            tags[name] = indices(words, classes)
        except UserError as error:
            sentence = f"{path}, line {number}: {error}"
            if faults is None:
                raise UserError(sentence) from None
            faults.append(sentence)
    if not tags:
        raise UserError(f"{path} holds no tags: write ID,TAG;TAG one image a line")
    return tags


def tags_of(
    cell: str, words: bool, known: set[str] | frozenset[str] = frozenset(), separators: str = ";|,"
) -> list[str]:
    """Tags that one field holds.

    Args:
        words: blanks separate tags.
        known: class names as `plain` spells them; a field that is one is not split.
        separators: characters between tags; line breaks separate too.
    """
    # Label Studio writes several choices as {"choices": [...]}.
    if cell.startswith("{") and '"choices"' in cell:
        try:
            return [re.sub(r"[\s_]+", " ", str(tag)).strip() for tag in json.loads(cell)["choices"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            return [cell]
    if plain(cell) in known:
        return [cell]
    tags = []
    if cell[:1] in ("[", "(", "{") and (quoted := re.findall(r"'([^']*)'|\"([^\"]*)\"", cell)):
        parts = ["".join(pair) for pair in quoted]  # a list as Python, NumPy or SQL writes it
    elif cell[:1] in ("[", "{") or re.fullmatch(r"\(.*,.*\)", cell, re.DOTALL):
        parts = re.split(r"[;|,\r\n]", cell.strip("[](){}"))
    else:
        parts = re.split(f"[{re.escape(separators)}\r\n]", cell)
    for part in parts:
        part = part.strip().strip("\"'").strip()
        tags += part.split() if words and plain(part) not in known else [part]
    return [re.sub(r"[\s_]+", " ", tag).strip() for tag in tags if plain(tag) not in NO_TAG]


def is_header(row: Sequence[str]) -> bool:
    """Whether a row names columns; that of a picture called `image` does not."""
    rest = [plain(cell) for cell in row[1:]]
    return plain(row[0]) in NAME_HEADERS and (not rest or any(cell in TAG_HEADERS for cell in rest))


def names_masks(header: Sequence[str]) -> bool:
    """Whether a header is `id,tags,mask`."""
    return len(header) == 3 and plain(header[2]) == "mask"


def wrong_masks(spec: Spec) -> frozenset[str]:
    """Images of which a person said that the mask a network made is wrong: its tags alone teach.

    The column `mask` of tags.csv says so; the report writes it.

    Raises:
        UserError: tags.csv cannot be read.
    """
    path = spec.root / "tags.csv"
    if not path.is_file():
        return frozenset()
    with_marks, ids = False, set()
    for row in csv.reader(read_text(path).splitlines(), skipinitialspace=True):
        if row and is_header(row):
            with_marks = with_marks or names_masks(row)
        elif with_marks and row[2:] == [WRONG]:
            ids.add(safe_id(stem(row[0].strip())))
    return frozenset(ids)


def from_folders(path: Path, classes: Sequence[str]) -> Tags:
    """Read `tags/CLASS/ID.*`: the names of the files in one folder per class."""
    tags: dict[str, set[int]] = {}
    for folder in sorted(path.iterdir()):
        if folder.is_dir() and not folder.name.startswith("."):
            index = indices([folder.name], classes, str(folder))
            for file in folder.iterdir():
                if not file.name.startswith("."):
                    tags.setdefault(safe_id(stem(file.name)), set()).update(index)
    return {name: tuple(sorted(row)) for name, row in tags.items()}


def from_instances(path: Path, classes: Sequence[str]) -> Tags:
    """Read the tags of all annotated images of a COCO instances json."""
    content = read_instances(path)
    names, objects = objects_of(content, path)
    index = {number: indices([name], classes, str(path)) for number, name in names.items()}
    tags = {}
    for image in content["images"]:
        row = {k for item in objects[image["id"]] for k in index[item["category_id"]]}
        tags[image_id(image["file_name"])] = tuple(sorted(row))
    if len(tags) < len(content["images"]):
        raise UserError(f"{path} has two images of one name or number: names must differ")
    return tags


READERS = {"text": from_text, "folders": from_folders, "instances": from_instances}


def indices(names: Iterable[str], classes: Sequence[str], where: str = "") -> tuple[int, ...]:
    """Indices of class names, ascending, each once, without background.

    Raises:
        UserError: beginning with `where` if given, for a name that is none of the classes.
    """
    known = {plain(name): number for number, name in enumerate(classes)}
    numbers = set()
    for name in names:
        if plain(name) not in known:
            some = ", ".join(classes[1:9]) + (", ..." if len(classes) > 9 else "")
            prefix = f"{where}: " if where else ""
            raise UserError(f"{prefix}{name[:80]!r} is not one of the classes ({some})")
        numbers.add(known[plain(name)])
    return tuple(sorted(numbers - {0}))
