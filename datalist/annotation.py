"""Annotation files of other programs, VOC's XML and COCO's json, and the file names in them."""

import json
import re
import unicodedata
from base64 import b64decode
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from base import UserError
from datalist.formats import SUFFIXES
from datalist.spec import safe_id

XML_LIMIT = 1 << 20
"""Bytes of one annotation; VOC's longest is 15 kB."""
PICTURE_SUFFIXES = {suffix[1:] for suffix in SUFFIXES}
LABEL_SUFFIXES = {"xml", "txt", "json"}


def xml_names(path: Path) -> list[str]:
    """Names of the objects in a VOC annotation; parts of objects (head, hand) do not count."""
    root = read_xml(path, XML_LIMIT)
    objects = root.findall("object") if root.tag == "annotation" else []
    return [(name.text or "").strip() for item in objects for name in item.findall("name")]


def read_xml(path: Path, limit: int) -> Element:
    """Read an XML file of at most `limit` bytes.

    Raises:
        UserError: the file is missing, too long, not XML, or declares a document type or entities
            (which can expand without bound or name other files).
    """
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > limit:
        raise UserError(f"{path} is longer than {limit} bytes: not an annotation of this kind")
    try:
        return ElementTree.fromstring(data, forbid_dtd=True)
    except DefusedXmlException:
        raise UserError(f"{path} declares a document type or entities: remove them") from None
    except (ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path} is not readable XML: {error}") from None


def read_instances(path: Path) -> dict:
    """Read a COCO instances json and check the fields that are used here."""
    return check_instances(read_json(path), path)


def read_json(path: Path) -> Any:
    """Read a json file; UserError where that is not possible."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not a readable json file: download it again") from None


def check_instances(content: Any, path: Path) -> dict:
    """Return the content of a json file, if it has the fields of COCO instances used here."""
    fields = {
        "images": {"id": int, "file_name": str},
        "annotations": {"image_id": int, "category_id": int},
        "categories": {"id": int, "name": str},
    }
    for part, needed in fields.items():
        rows = content.get(part) if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise UserError(f"{path} has no list '{part}': it is not a COCO instances file")
        for row in rows:
            for key, dtype in needed.items():
                if not isinstance(row, dict) or not isinstance(row.get(key), dtype):
                    raise UserError(f"{path}: an entry of '{part}' has no {dtype.__name__} '{key}'")
    unique = {"images": "file_name", "categories": "name"}
    return content | {part: without_twins(content[part], key, path) for part, key in unique.items()}


def objects_of(content: dict, path: Path) -> tuple[dict[int, str], dict[int, list[dict]]]:
    """Names of the categories of COCO instances, and the annotations of each image, by their ids.

    Raises:
        UserError: an annotation names an image or a category that the file has not.
    """
    names = {row["id"]: row["name"] for row in content["categories"]}
    objects: dict[int, list[dict]] = {image["id"]: [] for image in content["images"]}
    for item in content["annotations"]:
        image, category = item["image_id"], item["category_id"]
        if image not in objects or category not in names:
            raise UserError(f"{path}: an annotation names image {image!r}, class {category!r}")
        objects[image].append(item)
    return names, objects


def without_twins(rows: list[dict], key: str, path: Path) -> list[dict]:
    """Entries of a json, each id once."""
    first: dict[int, dict] = {}
    for row in rows:
        known = first.setdefault(row["id"], row)
        if known[key] != row[key]:
            raise UserError(
                f"{path}: the id {row['id']} is that of '{known[key][:80]}' and of "
                f"'{row[key][:80]}', so that nobody knows whose annotations are whose: export it "
                "again, or give them ids of their own"
            )
    return list(first.values())


def stem(name: str) -> str:
    """Name of a file without the suffix of a picture or a text; other dots stay."""
    front, dot, suffix = name.rpartition(".")
    return front if dot and suffix.casefold() in PICTURE_SUFFIXES | LABEL_SUFFIXES else name


def parts(text: str) -> list[str]:
    """Folders and file name of a path or an address, Windows' separators included.

    The signature of an address, such as of a cloud's storage, does not count.
    """
    text = unicodedata.normalize("NFC", text).strip().strip("\"'")
    if signed := re.search(r"[?&]fileuri=([\w+/=%-]+)", text):  # Label Studio, before cloud storage
        with suppress(ValueError):
            packed = unquote(signed[1])
            text = b64decode(packed + "=" * (-len(packed) % 4), "-_").decode()
    if local := text.partition("?d=")[2]:
        text = unquote(local)
    elif re.match(r"/data/|[a-z][a-z0-9+.-]+://", text):
        text = unquote(re.split(r"[?#]", text)[0])
    return [part for part in re.split(r"[\\/]+", text) if part not in ("", ".")]


def image_id(file_name: str) -> str:
    """Id of an image that a json names, maybe with folders before it, as labelling tools do.

    Raises:
        UserError: it is not a plain file name, or one of the folders is "..".
    """
    split = parts(file_name)
    return safe_id(file_name if ".." in split or not split else stem(split[-1]))
