"""External masks out of a COCO instances json."""

import json

import numpy as np
import pytest
from PIL import Image

from base import UserError
from datalist.dataset import Images
from datalist.prepare.instances import Arguments, build
from datalist.spec import resolve

pytest.importorskip("pycocotools", reason="masks of COCO need pycocotools")


def rectangle(image, category, left, top, width, height):
    right, bottom = left + width, top + height
    return {
        "image_id": image,
        "category_id": category,
        "area": width * height,
        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
    }


@pytest.fixture
def coco(tmp_path):
    """Four images: a dog behind a person, a person alone, a kite alone, nothing."""
    (tmp_path / "train2017").mkdir()
    rng = np.random.default_rng(0)
    for number in range(1, 5):
        pixels = rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"train2017/{number}.jpg")
    content = {
        "images": [
            {"id": n, "file_name": f"{n}.jpg", "height": 20, "width": 30} for n in range(1, 5)
        ],
        "annotations": [
            rectangle(1, 1, 6, 6, 4, 4),
            rectangle(1, 18, 3, 2, 12, 12),
            rectangle(2, 1, 1, 1, 5, 5),
            rectangle(3, 38, 1, 1, 5, 5),
        ],
        "categories": [
            {"id": 1, "name": "person"},
            {"id": 18, "name": "dog"},
            {"id": 38, "name": "kite"},
        ],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    return Arguments(path, tmp_path / "train2017", tmp_path / "external", ("dog",))


def test_images_of_the_categories_become_a_data_set(coco):
    assert build(coco) == 1  # a person alone keeps no image
    spec = resolve(str(coco.out))
    assert spec.classes == ("background", "person", "dog") and spec.ids("train") == ["1"]
    sample = Images(spec, "train", mask=spec.mask_folder)[0]
    assert sample["tag"].tolist() == [1, 1]
    expected = np.zeros((20, 30), int)
    expected[2:14, 3:15] = 2
    expected[6:10, 6:10] = 1  # smaller, so on top
    assert np.array_equal(sample["mask"].numpy(), expected)


def test_categories_are_a_choice(coco):
    other = Arguments(coco.json, coco.image, coco.out, ("kite", "person"), ())
    assert build(other) == 3
    assert resolve(str(other.out)).classes == ("background", "kite", "person")


def test_refusals_leave_nothing_behind(coco, tmp_path):
    before = set(tmp_path.iterdir())
    for category, words in ((("unicorn",), "no category 'unicorn'"), ((), "no image")):
        with pytest.raises(UserError, match=words):
            build(Arguments(coco.json, coco.image, coco.out, category, ("person",)))
    with pytest.raises(UserError, match="does not exist"):
        build(Arguments(coco.json, tmp_path / "nowhere", coco.out, ("dog",)))
    assert set(tmp_path.iterdir()) == before
    build(coco)
    with pytest.raises(UserError, match="exists already"):
        build(coco)
    content = json.loads(coco.json.read_text())
    content["annotations"][1]["segmentation"] = [[0, 0, 9, 9, 1e9, 1e9]]
    coco.json.write_text(json.dumps(content))
    with pytest.raises(UserError, match="cannot be drawn"):
        build(Arguments(coco.json, coco.image, tmp_path / "second", ("dog",)))
    assert not list(tmp_path.glob("*second*")) and not list(tmp_path.glob(".second*"))
