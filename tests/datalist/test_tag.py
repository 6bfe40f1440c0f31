import json

import numpy as np
import pytest
from own_folder import CLASSES, TAGS

from base import UserError
from datalist.folder import write_tags
from datalist.spec import COCO, resolve
from datalist.tag import from_instances, from_text, from_xml, multi_hot, read_tags, wrong_masks

XML = (
    "<annotation><object><name>cat</name><difficult>1</difficult>"
    "<part><name>head</name></part></object>"
    "<object><name>traffic light</name></object></annotation>"
)


def instances(root, names=("x", "y")):
    content = {
        "images": [{"id": 7 + k, "file_name": f"{name}.jpg"} for k, name in enumerate(names)],
        "annotations": [
            {"image_id": 7, "category_id": 90, "iscrowd": 0},
            {"image_id": 7, "category_id": 1, "iscrowd": 1},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}],
    }
    path = root / "annotations/instances_val2014.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return path


def test_difficult_objects_count_and_parts_do_not(tmp_path):
    (tmp_path / "a.xml").write_text(XML)
    assert from_xml(tmp_path / "a.xml", CLASSES) == (1, 2)


def test_tag_file_comes_before_annotations(folder):
    spec = resolve(str(folder))
    (folder / "tags.csv").write_text("id,tags\na,dog\nb,traffic light,cat\nc.jpg,\nd,dog;cat\n")
    expected = {"a": (3,), "b": (1, 2), "c": (), "d": (1, 3)}
    assert read_tags(spec, spec.ids("train")) == expected
    with pytest.raises(UserError, match="no tags of 2 images, the first is 'e'"):
        read_tags(spec, spec.ids("val"))


def test_text_file(folder):
    spec = resolve(str(folder))
    (folder / "tags.txt").write_text("# mine\na dog\nb Traffic_Light CAT\nc\nd dog cat\n")
    expected = {"a": (3,), "b": (1, 2), "c": (), "d": (1, 3)}
    assert read_tags(spec, spec.ids("train")) == expected


def test_marks_of_masks_are_no_tags(folder):
    spec = resolve(str(folder))
    ids = list(TAGS)
    rows = [[name, ";".join(CLASSES[k] for k in row)] for name, row in TAGS.items()]
    lines = [f"{name},{words}," for name, words in rows]
    lines[0] += "wrong"
    (folder / "tags.csv").write_text("\n".join(["id,tags,mask", *lines]) + "\n")
    assert read_tags(spec, ids) == TAGS
    assert wrong_masks(spec) == {rows[0][0]}
    (folder / "tags.csv").write_text("\n".join(["id,tags", *lines[1:]]) + "\n")
    assert not wrong_masks(spec)
    (folder / "tags.csv").unlink()
    assert not wrong_masks(spec)
    path = folder / "marked.csv"
    path.write_text(f"id,tags,mask\nx,{CLASSES[1]},bad\n")
    with pytest.raises(UserError, match="line 2: write ID,TAG;TAG"):
        from_text(path, CLASSES)


def test_folders(folder):
    spec = resolve(str(folder))
    for place in ("cat/a.jpg", "cat/b.txt", "traffic_light/b.jpg"):
        (folder / "tags" / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tags" / place).touch()
    assert read_tags(spec, spec.ids("train")) == {"a": (1,), "b": (1, 2), "c": (), "d": ()}
    (folder / "tags/cow").mkdir()
    with pytest.raises(UserError, match="'cow' is not one of the classes"):
        read_tags(spec, spec.ids("train"))


def test_coco(tmp_path):
    (tmp_path / "val2014").mkdir()
    spec = resolve("coco", tmp_path)
    with pytest.raises(UserError, match="instances_train2014"):
        read_tags(spec, ["x"])
    path = instances(tmp_path)
    assert read_tags(spec, ["x", "y"]) == {"x": (1, 80), "y": ()}
    assert from_instances(path, COCO) == {"x": (1, 80), "y": ()}
    write_tags(tmp_path / "tags.csv", {"x": (2, 10), "y": ()}, COCO)
    assert read_tags(spec, ["x", "y"]) == {"x": (2, 10), "y": ()}


def test_coco_json_of_own_data(folder):
    spec = resolve(str(folder))
    content = {
        "images": [{"id": k, "file_name": f"upload/{name}.jpg"} for k, name in enumerate("abcd")],
        "annotations": [{"image_id": 1, "category_id": 0}, {"image_id": 1, "category_id": 4}],
        "categories": [{"id": 0, "name": "dog"}, {"id": 4, "name": "traffic_light"}],
    }
    (folder / "tags.json").write_text(json.dumps(content))
    assert read_tags(spec, spec.ids("train")) == {"a": (), "b": (2, 3), "c": (), "d": ()}
    content["images"][0]["file_name"] = "other/b.jpg"
    (folder / "tags.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="two images of one name"):
        read_tags(spec, ["a"])


def test_hostile_file_name_in_json(tmp_path):
    with pytest.raises(UserError, match="is not an image id"):
        from_instances(instances(tmp_path, ("../x", "y")), COCO)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a,cow\n", r"line 1: 'cow' is not one of the classes \(cat, traffic light, dog\)"),
        ("a,cat\na,dog\n", "line 2: image 'a' has a line already"),
        ("../a,cat\n", "line 1: .* is not an image id"),
        ("id,tag\n", "holds no tags"),
    ],
)
def test_tag_files_that_cannot_be(tmp_path, text, match):
    path = tmp_path / "tags.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=match):
        from_text(path, CLASSES)


def test_missing_and_unknown(folder):
    spec = resolve(str(folder))
    (folder / "Annotations/b.xml").write_text(XML.replace("cat", "cow"))
    with pytest.raises(UserError, match=r"b\.xml: 'cow' is not one of the classes"):
        read_tags(spec, ["b"])
    (folder / "Annotations/b.xml").unlink()
    with pytest.raises(UserError, match=r"cannot read .*b\.xml: No such file"):
        read_tags(spec, ["b"])
    (folder / "Annotations").rename(folder / "Elsewhere")
    with pytest.raises(UserError, match=r"no tags of own: .*Annotations/ID\.xml or tags\.csv"):
        read_tags(spec, ["b"])


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {chr(98 + k)} "{f"&{chr(97 + k)};" * 10}">' for k in range(9)
)
OUTSIDE = '<!DOCTYPE a [<!ENTITY j SYSTEM "file:///etc/passwd">'


@pytest.mark.parametrize("head", [BOMB, OUTSIDE, '<!DOCTYPE a SYSTEM "http://127.0.0.1/a.dtd" ['])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused(tmp_path, head, encoding):
    path = tmp_path / "a.xml"
    text = f'<?xml version="1.0" encoding="{encoding}"?>{head}]>'
    path.write_bytes((text + XML.replace("cat", "&j;")).encode(encoding))
    with pytest.raises(UserError, match="declares a document type or entities"):
        from_xml(path, CLASSES)


def test_endless_annotation(tmp_path):
    (tmp_path / "a.xml").write_text("<annotation>" + "<a>" * 400_000)
    with pytest.raises(UserError, match="longer than"):
        from_xml(tmp_path / "a.xml", CLASSES)


def test_multi_hot():
    vector = multi_hot((1, 3), 4)
    assert vector.dtype == np.float32 and vector.tolist() == [1, 0, 1]
    assert multi_hot((), 3).tolist() == [0, 0]
    for wrong in (0, 4):
        with pytest.raises(UserError, match="not a class index"):
            multi_hot((wrong,), 4)
