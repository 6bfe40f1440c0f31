"""Tags in exports of tools that are not tables."""

import json
import shutil

import pytest
from own_folder import arranged, picture
from PIL import Image

from base import UserError
from datalist.tag import read_tags


@pytest.fixture
def photos(tmp_path):
    for number, name in enumerate("abc"):
        picture(tmp_path / f"photos/{name}.jpg", number)
    return tmp_path / "photos"


def tags_of(photos, **flags):
    spec, _ = arranged(photos, **flags)
    tags = read_tags(spec, spec.ids("train"))
    return {name: [spec.classes[tag] for tag in row] for name, row in tags.items()}


EXPECTED = {"a": ["cat", "dog"], "b": ["dog"], "c": []}


def task(name, *choices, done=True):
    result = [{"type": "choices", "value": {"choices": list(choices)}}] if choices else []
    annotations = [{"result": result, "was_cancelled": False}] if done else []
    data = {"image": f"/data/upload/1/deadbeef-{name}.jpg", "note": "x"}
    return {"id": 1, "data": data, "annotations": annotations}


CVAT = (
    '<annotations><image name="a.jpg"><tag label="cat"/><box label="dog"/></image>'
    '<image name="b.jpg"><tag label="dog"/></image><image name="c.jpg">'
    '<tag label="background"/></image></annotations>'
)
RECORDS = [
    {"file_name": "a.jpg", "labels": ["cat", "dog"], "width": 9},
    {"file_name": "b.jpg", "labels": ["dog"], "width": 9},
    {"file_name": "c.jpg", "labels": ["background"], "width": 9},
]
CHOICES = [task("a", "cat", "dog"), task("b", "dog"), task("c")]
FILES = {
    "labelstudio.json": json.dumps(CHOICES),
    "with-bom.json": "\ufeff" + json.dumps(CHOICES),
    "cvat.xml": CVAT,
    "metadata.jsonl": "\n".join(map(json.dumps, RECORDS)),
    "records.json": json.dumps(RECORDS),
    "objects.jsonl": "\n".join(
        json.dumps({"file_name": row["file_name"], "objects": {"categories": row["labels"]}})
        for row in RECORDS
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files(photos, name):
    path = photos.parent / name
    path.write_text(FILES[name], encoding="utf-8")
    assert tags_of(photos, tags=path) == EXPECTED


@pytest.mark.parametrize("names", ["names: [cat, dog]", "names:\n  0: cat\n  1: dog"])
def test_labels_of_yolo(photos, names):
    labels = photos.parent / "labels"
    labels.mkdir()
    (labels / "a.txt").write_text("0 .5 .5 .1 .1\n1 .5 .5 .1 .1\n")
    (labels / "b.txt").write_text("1 .1 .1 .2 .2 .3 .3\n")
    (labels / "c.txt").touch()
    with pytest.raises(UserError, match=r"no names of its classes: put data\.yaml"):
        arranged(photos, tags=labels)
    (photos.parent / "data.yaml").write_text(names)
    assert tags_of(photos, tags=labels) == EXPECTED
    (labels / "c.txt").write_text("7 0 0 1 1\n")
    with pytest.raises(UserError, match=r"c\.txt, line 1: '7 0 0 1 1' is not"):
        shutil.rmtree(photos.parent / "mine")
        arranged(photos, tags=labels)


def xmp(*words):
    items = "".join(f"<rdf:li>{word}</rdf:li>" for word in words)
    return f"<x:xmpmeta><dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject></x:xmpmeta>".encode()


def test_keywords_of_photo_managers(photos):
    with Image.open(photos / "a.jpg") as image:
        image.save(photos / "a.jpg", xmp=xmp("cat", "dog"))
    # IPTC record 2, number 25, in Photoshop's block of the JPEG.
    words = b"\x1c\x02\x19" + len(b"dog").to_bytes(2, "big") + b"dog"
    block = b"8BIM\x04\x04\x00\x00" + len(words).to_bytes(4, "big") + words
    segment = b"Photoshop 3.0\x00" + block
    data = (photos / "b.jpg").read_bytes()
    marker = b"\xff\xed" + (len(segment) + 2).to_bytes(2, "big") + segment
    (photos / "b.jpg").write_bytes(data[:2] + marker + data[2:])
    (photos / "c.xmp").write_bytes(xmp("background"))
    assert tags_of(photos, keywords=True) == EXPECTED


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("t.json", "[1]", "not a list of records"),
        ("t.json", '[{"data": {"text": "x"}}]', "names 0 pictures"),
        ("t.json", '[{"data": {"a": "a.jpg", "b": "b.jpg"}}]', "names 2 pictures"),
        ("t.json", '[{"data": {"a": "a.jpg"}, "annotations": 3}]', "not a readable export"),
        ("t.jsonl", '{"a": 1}\nx', "line 2: the line is not json"),
        ("t.xml", "<annotations/>", "not an XML of 'CVAT"),
    ],
)
def test_others_are_refused(photos, name, text, match):
    (photos.parent / name).write_text(text)
    with pytest.raises(UserError, match=match):
        arranged(photos, tags=photos.parent / name)
    assert not (photos.parent / "mine").exists()
