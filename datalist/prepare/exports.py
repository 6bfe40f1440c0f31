"""Tags in the exports of tools that are not tables: json, json lines, XML, YOLO, photo managers."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import unescape

import yaml
from PIL import Image, IptcImagePlugin

from base import UserError
from datalist.annotation import check_instances, objects_of, read_json
from datalist.prepare.names import is_picture_path
from datalist.prepare.table.text import Grid
from datalist.prepare.tools import read_cvat
from datalist.spec import read_text

Rows = list[tuple[str, list[str]]]
BACKGROUND = "background"
NAME_FILES = ("classes.txt", "obj.names", "data.yaml", "dataset.yaml", "data.yml", "classes.names")
KEYWORDS = (2, 25)
"""Record and number of keywords in IPTC."""


def read_export(path: Path) -> Rows | Grid:
    """Read the tags of a json, json lines or XML file, or of a folder of YOLO's labels.

    Returns:
        Name and tags of each image; or, of records without a fixed meaning, a grid for
        `read_table`: a header and rows.

    Raises:
        UserError: the file is of another kind.
    """
    suffix = path.suffix.casefold()
    if path.is_dir():
        return from_yolo(path)
    if suffix == ".xml":
        return from_cvat(path)
    if suffix in (".jsonl", ".ndjson"):
        return to_grid(read_lines(path), path)
    content = read_json(path)
    if not isinstance(content, list):
        return from_coco(check_instances(content, path), path)
    if content and isinstance(content[0], dict) and isinstance(content[0].get("data"), dict):
        return from_labelstudio(content, path)
    return to_grid(content, path)


def read_lines(path: Path) -> list[Any]:
    """The records of a file of json lines."""
    records = []
    for number, line in enumerate(filter(str.strip, read_text(path).splitlines()), 1):
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError):
            raise UserError(f"{path}, line {number}: the line is not json") from None
    return records


def to_grid(records: Sequence[Any], path: Path) -> Grid:
    """A table of records, such as Hugging Face's metadata.jsonl; `objects.category` is a column."""
    flat: list[dict[str, str]] = []
    for record in records:
        if not isinstance(record, dict):
            raise UserError(f"{path} is not a list of records: it holds {str(record)[:40]!r}")
        row = {}
        for key, value in record.items():
            inner = value if isinstance(value, dict) and "choices" not in value else {"": value}
            for part, item in inner.items():
                text = "" if item is None else item
                text = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
                row[f"{key}.{part}" if part else str(key)] = text
        flat.append(row)
    header = list(dict.fromkeys(key for row in flat for key in row))
    return [header, *([row.get(key, "") for key in header] for row in flat)]


def from_coco(content: dict, path: Path) -> Rows:
    """File name and category names of each image of a COCO instances json."""
    names, objects = objects_of(content, path)
    names = {number: re.sub(r"[\s_]+", " ", name) for number, name in names.items()}
    return [
        (image["file_name"], [names[item["category_id"]] for item in objects[image["id"]]])
        for image in content["images"]
    ]


def from_labelstudio(tasks: Iterable[Any], path: Path) -> Rows:
    """Choices and labels of the last annotation of each task of Label Studio."""
    rows: Rows = []
    try:
        for task in tasks:
            texts = [text for text in task["data"].values() if isinstance(text, str)]
            pictures = list(filter(is_picture_path, texts))
            if len(pictures) != 1:
                raise UserError(f"{path}: task {task.get('id')} names {len(pictures)} pictures")
            done = [row for row in task.get("annotations", []) if not row.get("was_cancelled")]
            tags: list[str] = []
            for result in done[-1]["result"] if done else []:
                for key, value in result.get("value", {}).items():
                    if key == "choices" or key.endswith("labels"):
                        tags += map(str, value)
            # Somebody looked at it and found none of the classes.
            rows.append((pictures[0], tags or [BACKGROUND] * bool(done)))
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is not a readable export of Label Studio") from None
    return rows


def from_cvat(path: Path) -> Rows:
    """Labels of tags and shapes of each image in the XML of CVAT."""
    images = read_cvat(path)
    try:
        return [(x.attrib["name"], [item.attrib["label"] for item in x]) for x in images]
    except KeyError as error:
        raise UserError(f"{path}: an image or a label has no {error}") from None


def from_yolo(folder: Path) -> Rows:
    """Classes in YOLO's label files, one a picture; an empty file says that there is none."""
    names = yolo_names(folder)
    rows: Rows = []
    for file in sorted(folder.rglob("*.txt")):
        if file.name in NAME_FILES:
            continue
        tags = []
        for number, line in enumerate(read_text(file).splitlines(), 1):
            word, *box = line.split() or [""]
            if word and not (word.isdecimal() and len(box) > 3 and int(word) in names):
                raise UserError(f"{file}, line {number}: {line[:40]!r} is not 'CLASS X Y W H'")
            tags += [names[int(word)]] if word else []
        rows.append((file.relative_to(folder).with_suffix("").as_posix(), tags or [BACKGROUND]))
    if not rows:
        raise UserError(f"{folder} holds no labels (.txt) of YOLO")
    return rows


def yolo_names(folder: Path) -> dict[int, str]:
    """Names of YOLO's classes, from a file in the folder of labels or in one of the two above."""
    folders = [folder, *list(folder.resolve().parents)[:2]]
    files = [file for parent in folders for name in NAME_FILES if (file := parent / name).is_file()]
    if not files:
        raise UserError(
            f"{folder} has no names of its classes: put data.yaml or classes.txt (one name a line, "
            "from class 0) into it"
        )
    text = read_text(files[0])
    if files[0].suffix not in (".yaml", ".yml"):
        return dict(enumerate(line.strip() for line in text.splitlines() if line.strip()))
    try:
        names = yaml.safe_load(text)["names"]
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        return {int(number): str(name) for number, name in pairs}
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        raise UserError(f"{files[0]} does not list 'names' of classes") from None


def keywords(file: Path) -> list[str]:
    """Keywords that photo managers write into a picture (XMP `dc:subject`, IPTC), or beside it."""
    words: list[str] = []
    try:
        with Image.open(file) as image:
            packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
            iptc = IptcImagePlugin.getiptcinfo(image) or {}
    except Exception as error:  # damaged headers raise a dozen types
        raise UserError(f"{file} cannot be opened ({str(error)[:80]})") from None
    beside = (file.with_suffix(".xmp"), file.with_name(file.name + ".xmp"))
    texts = [packet.encode() if isinstance(packet, str) else packet]
    texts += [path.read_bytes() for path in beside if path.is_file()]
    for text in texts:
        for bag in re.findall(rb"<dc:subject>(.*?)</dc:subject>", text, re.DOTALL):
            items = re.findall(rb"<rdf:li[^>]*>(.*?)</rdf:li>", bag, re.DOTALL)
            words += [unescape(item.decode("utf-8", "replace")) for item in items]
    raw = iptc.get(KEYWORDS, [])
    for item in [raw] if isinstance(raw, bytes) else raw:
        try:
            words.append(item.decode())
        except UnicodeDecodeError:
            words.append(item.decode("cp1252", "replace"))
    return list(dict.fromkeys(word.strip() for word in words if word.strip()))
