"""Exports of annotation tools as people have them: understood, or refused by one sentence."""

import base64
import json
import shutil

import numpy as np
import pytest
from own_folder import SIZES, arranged, picture

from base import UserError
from datalist.image import read_mask, write_mask
from datalist.prepare.convert import import_masks
from datalist.prepare.instances import Arguments, build
from datalist.spec import resolve
from utils.report.annotate import Arguments as AnnotateArguments
from utils.report.annotate import main as annotate

SQUARE = [[2, 2, 8, 2, 8, 8, 2, 8]]
SMALL = [[4, 4, 6, 4, 6, 6, 4, 6]]
CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}]


@pytest.fixture
def spec(folder):
    shutil.rmtree(folder / "SegmentationClass")
    return resolve(str(folder))


def coco(spec, images, annotations, categories=CATEGORIES):
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = spec.root / "export.json"
    path.write_text(json.dumps(content))
    return path


def image_of(number, name, **more):
    height, width = SIZES[name[0]]
    return {"id": number, "file_name": name, "height": height, "width": width, **more}


def item(image, category, segmentation, **more):
    return {"image_id": image, "category_id": category, "segmentation": segmentation, **more}


def written(spec):
    return sorted(path.stem for path in spec.root.glob("SegmentationClass/*.png"))


# -- COCO -----------------------------------------------------------------------------------------


def test_coco_ids_of_two_pictures_are_refused(spec):
    images = [image_of(1, "a.jpg"), image_of(1, "b.jpg")]
    path = coco(spec, images, [item(1, 1, SQUARE)])
    with pytest.raises(UserError, match=r"the id 1 is that of 'a\.jpg' and of 'b\.jpg', so that"):
        import_masks(spec, path)
    with pytest.raises(UserError, match="the id 1 is that of"):
        arranged(spec.root / "JPEGImages", tags=path)
    path = coco(spec, [image_of(1, "a.jpg")], [], [*CATEGORIES, {"id": 1, "name": "dog"}])
    with pytest.raises(UserError, match="the id 1 is that of 'cat' and of 'dog'"):
        import_masks(spec, path)
    # The same entry twice is no question.
    path = coco(spec, [image_of(1, "a.jpg")] * 2, [])
    assert import_masks(spec, path)[0] == 1


def test_coco_objects_without_outline_are_counted(spec):
    annotations = [
        item(1, 1, SQUARE),
        item(1, 3, [], bbox=[0, 0, 5, 5]),
        item(1, 3, [[1, 1, 9, 9]], area=3),
        {"image_id": 1, "category_id": 3, "bbox": [0, 0, 5, 5]},
        item(1, 3, [[1, 1, 9, 9], *SMALL]),
        item(2, 1, [], bbox=[0, 0, 5, 5]),
        {"image_id": 2, "category_id": 1, "bbox": [0, 0, 5, 5], "segmentation": None},
    ]
    images = [image_of(1, "a.jpg"), image_of(2, "b.jpg"), image_of(3, "d.jpg")]
    count, notes = import_masks(spec, coco(spec, images, annotations))
    assert count == 2 and written(spec) == ["a", "d"]  # boxes alone are no mask
    assert notes[0].startswith("5 objects without an outline (boxes, empty or of two points) are")
    assert notes[1] == "1 images have boxes or other marks alone and get no mask: 'b' ..."
    assert notes[2] == "1 images have no object and become background: 'd' ..."
    mask = read_mask(spec.mask_path("a"))
    assert mask[3, 3] == 1 and mask[5, 5] == 3 and mask[0, 0] == 0
    assert read_mask(spec.mask_path("d")).max() == 0


def test_coco_without_area_and_size(spec):
    runs = {"size": [20, 30], "counts": [20 * 30 - 40, 40]}
    annotations = [
        item(1, 3, SMALL),
        item(1, 1, SQUARE),
        item(1, 3, runs, iscrowd=1),
    ]
    image = {"id": 1, "file_name": "a.jpg"}
    assert import_masks(spec, coco(spec, [image], annotations))[0] == 1
    mask = read_mask(spec.mask_path("a"))
    assert mask.shape == SIZES["a"] and mask[5, 5] == 3 and mask[3, 3] == 1  # small on top
    assert (mask[:, -2:] == 3).all()
    image |= {"width": 30.0, "height": 20.0}
    assert import_masks(spec, coco(spec, [image], annotations))[0] == 1
    flat = [item(1, 1, SQUARE[0])]
    import_masks(spec, coco(spec, [image], flat))
    assert read_mask(spec.mask_path("a"))[3, 3] == 1
    pairs = [item(1, 1, [[2, 2], [8, 2], [8, 8], [2, 8]])]
    import_masks(spec, coco(spec, [image], pairs))
    assert read_mask(spec.mask_path("a"))[3, 3] == 1
    # Masks that were replaced are kept.
    assert len(list(spec.root.glob("SegmentationClass.old-*"))) == 3


def test_a_bad_object_leaves_nothing_half_written(spec):
    annotations = [
        item(1, 1, SQUARE),
        item(2, 1, [[0, 0, 1e9, 0, 1e9, 1e9]]),
    ]
    images = [image_of(1, "a.jpg"), image_of(2, "b.jpg")]
    before = [*(path.name for path in spec.root.iterdir()), "export.json"]
    with pytest.raises(UserError, match=r"image 'b\.jpg' cannot be drawn"):
        import_masks(spec, coco(spec, images, annotations))
    assert sorted(path.name for path in spec.root.iterdir()) == sorted(before)
    for change in ({"image_id": 9}, {"category_id": 9}):
        path = coco(spec, images, [annotations[0] | change])
        with pytest.raises(UserError, match="an annotation names image"):
            import_masks(spec, path)


@pytest.mark.parametrize("name", ["my%20cat.jpg", "photos/my%20cat.jpg", "my cat.jpg"])
def test_blanks_written_as_20(tmp_path, name):
    picture(tmp_path / "photos/cat/my cat.jpg", 0, (20, 30))
    picture(tmp_path / "photos/dog/b.jpg", 1)
    spec, _ = arranged(tmp_path / "photos")
    image = {"id": 1, "file_name": name, "height": 20, "width": 30}
    path = coco(spec, [image], [item(1, 1, SQUARE)])
    assert import_masks(spec, path)[0] == 1 and written(spec) == ["my_cat"]


def test_instances_take_sizes_from_the_pictures(spec, tmp_path):
    images = [{"id": 1, "file_name": "a.jpg"}]
    path = coco(spec, images, [item(1, 1, SQUARE)])
    build(Arguments(path, spec.root / "JPEGImages", tmp_path / "out", ("cat",), ()))
    assert read_mask(tmp_path / "out/SegmentationClass/a.png").shape == SIZES["a"]


# -- Label Studio ---------------------------------------------------------------------------------


def polygon(name, label="cat", **more):
    height, width = SIZES[name]
    points = [[100 * x / width, 100 * y / height] for x, y in ((2, 2), (8, 2), (8, 8), (2, 8))]
    value = {"points": points, "polygonlabels": [label]}
    size = {"original_height": height, "original_width": width}
    return {"type": "polygonlabels", "to_name": "image", "value": value, **size, **more}


def tasks(spec, *rows):
    path = spec.root / "tasks.json"
    content = [{"data": data, "annotations": [{"result": result}]} for data, result in rows]
    path.write_text(json.dumps(content))
    return path


def test_several_keys_of_a_task(spec):
    data = {"reference": "b.jpg", "image": "a.jpg", "source": "https://example.org/page"}
    import_masks(spec, tasks(spec, (data, [polygon("a")])))
    assert written(spec) == ["a"]
    data = {"before": "b.jpg", "after": "a.jpg"}
    path = tasks(spec, (data, [polygon("a", to_name="img")]))
    with pytest.raises(UserError, match=r"several pictures \(before, after\): say with --key"):
        import_masks(spec, path)
    shutil.rmtree(spec.mask_folder)
    import_masks(spec, path, key="after")
    assert written(spec) == ["a"]
    with pytest.raises(UserError, match="a task has no 'later', only before, after"):
        import_masks(spec, path, key="later")
    # Two pictures of one task, both drawn on.
    results = [polygon("a", to_name="after"), polygon("b", to_name="before")]
    import_masks(spec, tasks(spec, (data, results)))
    assert written(spec) == ["a", "b"]


def test_a_list_of_pictures(spec):
    data = {"images": ["b.jpg", "a.jpg"]}
    results = [polygon("a", item_index=1), polygon("b", "dog", item_index=0)]
    import_masks(spec, tasks(spec, (data, results)))
    assert read_mask(spec.mask_path("a")).max() == 1 and read_mask(spec.mask_path("b")).max() == 3
    before = written(spec)
    for results in ([polygon("a")], [polygon("a", item_index=2)]):
        with pytest.raises(UserError, match=r"does not say on which it lies|lies on page 2 of 2"):
            import_masks(spec, tasks(spec, (data, results)))
    assert written(spec) == before
    import_masks(spec, tasks(spec, ({"images": ["a.jpg"]}, [polygon("a")])))


@pytest.mark.parametrize(
    "address",
    [
        "https://bucket.s3.amazonaws.com/x/a.jpg?X-Amz-Signature=ab%2Fc.d&X-Amz-Date=2024",
        "s3://bucket/x/a.jpg", "gs://bucket/x/a.jpg", "/data/upload/3/1a2b3c4d-a.jpg",
        "/tasks/7/resolve/?fileuri=" + base64.b64encode(b"s3://bucket/x/a.jpg").decode(),
        "/data/local-files/?d=x/a.jpg", "azure-blob://container/a.jpg?sv=1.2",
    ],
)  # fmt: skip
def test_signed_addresses(spec, address):
    import_masks(spec, tasks(spec, ({"image": address}, [polygon("a")])))
    assert written(spec) == ["a"]


def test_boxes_alone_give_no_mask(spec):
    box = {"type": "rectanglelabels", "to_name": "image", "original_height": 9,
           "original_width": 9, "value": {"x": 1, "y": 1, "width": 9, "height": 9,
           "rectanglelabels": ["cat"]}}  # fmt: skip
    path = tasks(spec, ({"image": "a.jpg"}, [box]), ({"image": "b.jpg"}, [polygon("b")]))
    count, notes = import_masks(spec, path)
    assert count == 1 and written(spec) == ["b"]
    assert "1 images have boxes or other marks alone and get no mask: 'a' ..." in notes
    with pytest.raises(UserError, match="no mask or polygon on any picture, only boxes"):
        import_masks(spec, tasks(spec, ({"image": "a.jpg"}, [box])))


def test_cvat_boxes_alone_give_no_mask(spec):
    rows = "".join(
        f'<image id="{k}" name="{name}.jpg" width="{SIZES[name][1]}" height="{SIZES[name][0]}">'
        f"{content}</image>"
        for k, (name, content) in enumerate(
            {
                "a": '<box label="cat" xtl="1" ytl="1" xbr="5" ybr="5" z_order="0"/>',
                "b": '<tag label="cat"/>',
                "c": '<ellipse label="dog" cx="12" cy="12" rx="8" ry="4" z_order="0"/>',
            }.items()
        )
    )
    path = spec.root / "cvat.xml"
    path.write_text(f"<annotations>{rows}</annotations>")
    count, notes = import_masks(spec, path)
    assert count == 1 and written(spec) == ["c"]
    assert notes[:2] == ["1 elements 'box' are left out", "1 elements 'tag' are left out"]
    assert notes[2].startswith("2 images have boxes or other marks alone")
    mask = read_mask(spec.mask_path("c"))
    assert mask[12, 5] == mask[12, 19] == 3 and mask[5, 12] == 0
    assert abs((mask == 3).sum() - np.pi * 8 * 4) < 12


# -- VIA ------------------------------------------------------------------------------------------


def regions(kind):
    x, y = [2, 8, 8, 2], [2, 2, 8, 8]
    shapes = {
        "polygon": {"name": "polygon", "all_points_x": x, "all_points_y": y},
        "rect": {"name": "rect", "x": 1, "y": 1, "width": 5, "height": 5},
        "circle": {"name": "circle", "cx": 10, "cy": 10, "r": 4},
        "point": {"name": "point", "cx": 1, "cy": 1},
    }
    return {"shape_attributes": shapes[kind], "region_attributes": {"type": "cat"}}


@pytest.mark.parametrize("form", ["project", "json", "version 1", "csv"])
def test_via(spec, form):
    files = {
        "a.jpg12": {"filename": "a.jpg", "regions": [regions("polygon"), regions("point")]},
        "b.jpg34": {"filename": "b.jpg", "regions": [regions("circle")]},
        "c.jpg56": {"filename": "c.jpg", "regions": [regions("rect")]},
        "d.jpg78": {"filename": "d.jpg", "regions": []},
    }
    path = spec.root / ("via.csv" if form == "csv" else "via.json")
    if form == "csv":
        rows = ["filename,file_size,file_attributes,region_count,region_id,"
                "region_shape_attributes,region_attributes"]  # fmt: skip
        for file in files.values():
            for k, region in enumerate(file["regions"] or [{}]):
                shape, labels = (
                    json.dumps(region.get(key, {})).replace('"', '""')
                    for key in ("shape_attributes", "region_attributes")
                )
                rows.append(f'{file["filename"]},1,"{{}}",1,{k},"{shape}","{labels}"')
        path.write_text("\n".join(rows))
    else:
        if form == "version 1":
            for file in files.values():
                file["regions"] = {str(k): row for k, row in enumerate(file["regions"])}
        content = {"_via_settings": {}, "_via_img_metadata": files}
        path.write_text(json.dumps(content if form == "project" else files))
    count, notes = import_masks(spec, path)
    assert count == 3 and written(spec) == ["a", "b", "d"]
    assert "1 images have boxes or other marks alone and get no mask: 'c' ..." in notes
    mask = read_mask(spec.mask_path("a"))
    assert mask[5, 5] == 1 and mask[0, 0] == 0
    assert abs((read_mask(spec.mask_path("b")) == 1).sum() - np.pi * 16) < 10


def test_via_attributes(spec):
    row = regions("polygon")
    path = spec.root / "via.json"

    def taken(attributes, key=""):
        content = {
            "x": {"filename": "a.jpg", "regions": [{**row, "region_attributes": attributes}]}
        }
        path.write_text(json.dumps(content))
        import_masks(spec, path, key)
        return read_mask(spec.mask_path("a")).max()

    with pytest.raises(UserError, match=r"2 attributes \(type, colour\): say with --key"):
        taken({"type": "cat", "colour": "red"})
    assert taken({"type": "dog", "colour": "red"}, "type") == 3
    assert taken({"type": {"dog": True, "cat": False}}) == 3
    for value in ({"dog": True, "cat": True}, "", {}):
        with pytest.raises(UserError, match="a region has"):
            taken({"type": value})


# -- what SeedSeg wrote ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["coco", "cvat", "labelstudio"])
def test_what_annotate_wrote_comes_back_where_cameras_repeat_names(tmp_path, form):
    for number in range(4):
        folder = f"{('cat', 'dog')[number // 2]}/DCIM{number % 2 + 1}"
        picture(tmp_path / f"photos/{folder}/IMG_0000.jpg", number, (40, 50))
    spec, _ = arranged(tmp_path / "photos")
    assert (spec.root / "names.csv").is_file() and len(spec.ids("train")) == 4
    labels = {}
    for number, name in enumerate(spec.ids("train")):
        labels[name] = np.zeros((40, 50), np.uint8)
        labels[name][5 : 20 + 3 * number, 10:30] = number % 2 + 1
        write_mask(tmp_path / f"label/{name}.png", labels[name])
    out = tmp_path / ("out.xml" if form == "cvat" else "out.json")
    annotate(AnnotateArguments(tmp_path / "label", form, out, dataset=str(spec.root), tolerance=0))
    count, _ = import_masks(spec, out)
    assert count == 4
    for name, label in labels.items():
        mask = read_mask(spec.mask_path(name))
        assert (mask != label).mean() < (0.06 if form == "labelstudio" else 1e-9), name
        assert set(np.unique(mask)) == set(np.unique(label))
