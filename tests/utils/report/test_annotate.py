"""Annotation files give back the labels that they were made from."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import shapely
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from base import UserError
from datalist.image import read_image, read_mask, write_mask
from datalist.spec import resolve
from utils.report.annotate import Arguments, main, row_runs
from utils.report.outline import polygons, regions

FOUR = ("background", "rust", "paint", "crack", "moss")
LABELS = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from([0, 0, 0, 1, 1, 2, 255]),
)


def blobs(seed: int, size: tuple[int, int] = (60, 83)) -> np.ndarray:
    """A label map of smooth regions with holes and specks."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=size).astype(np.float32), (0, 0), 4)
    label = np.digitize(noise, np.quantile(noise, [0.4, 0.7, 0.9])).astype(np.uint8)
    label[rng.random(size) < 0.003] = 3
    label[:, :3] = 255
    return label


def filled(outline, size) -> np.ndarray:
    """Pixels in polygons, as pycocotools fills them, bool (H, W)."""
    paths = [np.ravel(path).tolist() for path in outline]
    return rle.decode(rle.merge(rle.frPyObjects(paths, *size))) > 0


def painted(outlines, size) -> np.ndarray:
    """A label map from polygons."""
    label = np.zeros(size, np.uint8)
    for region, outline in outlines:
        label[filled(outline, size)] = region.index
    return label


@settings(deadline=None)
@given(label=LABELS, instances=st.booleans())
def test_exact_polygons_of_any_label(label, instances):
    outlines = [(region, polygons(region)) for region in regions(label, instances)[0]]
    assert np.array_equal(painted(outlines, label.shape), np.where(label == 255, 0, label))
    for _, outline in outlines:
        for path in outline:
            assert (path >= 0).all() and (path <= label.shape[::-1]).all()


@settings(deadline=None)
@given(label=LABELS)
def test_instances_are_the_connected_parts(label):
    total = np.zeros(label.shape, int)
    for region in regions(label, True)[0]:
        mask = region.full(label.shape)
        assert cv2.connectedComponents(mask, connectivity=8)[0] == 2
        assert (label[mask > 0] == region.index).all()
        total += mask
    assert np.array_equal(total, ((label > 0) & (label < 255)).astype(int))


def test_coarse_polygons_stay_near():
    label = blobs(0)
    for tolerance in (1.0, 2.0):
        outlines = [(region, polygons(region, tolerance)) for region in regions(label, True)[0]]
        corners = sum(len(path) for _, outline in outlines for path in outline)
        exact = sum(len(p) for r, _ in outlines for p in polygons(r))
        assert corners < exact / 2
        away = painted(outlines, label.shape) != np.where(label == 255, 0, label)
        edge = cv2.morphologyEx(label, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        near = cv2.dilate(edge.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=2) > 0
        assert not (away & ~near).any()


def test_small_parts_are_left_out():
    label = blobs(1)
    (kept, left_out), (every, none) = regions(label, True, smallest=9), regions(label, True)
    assert left_out > 0 == none and len(kept) + left_out == len(every)
    assert all(region.mask.sum() >= 9 for region in kept)
    merged, also = regions(label, False, smallest=9)
    assert len(merged) <= 3 and also == left_out
    assert sum(r.mask.sum() for r in merged) == sum(r.mask.sum() for r in kept)


@pytest.fixture
def predicted(four_root: Path, tmp_path: Path) -> tuple[Arguments, dict[str, np.ndarray]]:
    """Labels of the images of somebody's own folder, and the arguments to read them with."""
    spec = resolve(str(four_root))
    labels = {}
    for number, name in enumerate(spec.ids("train")):
        size = cv2.imread(str(spec.image_path(name))).shape[:2]
        labels[name] = blobs(number, size)
        write_mask(tmp_path / "run/label" / f"{name}.png", labels[name])
    labels = {name: np.where(label == 255, 0, label) for name, label in labels.items()}
    out = tmp_path / "out" / "annotations"
    arguments = Arguments(tmp_path / "run", "coco", out, dataset=str(four_root), smallest=0)
    return arguments, labels


def test_specks_are_left_out_unless_asked_for(predicted, capsys):
    """The default is a share of the image, so it means the same at any size."""
    arguments, labels = predicted
    counts = {}
    for smallest in (0, Arguments.smallest, 30, 0.5):
        main(replace(arguments, smallest=smallest, instances=True))
        counts[smallest] = len(json.loads(arguments.out.read_text())["annotations"])
        text = capsys.readouterr().out
        left_out = counts[0] - counts[smallest]
        assert (f"{left_out} connected parts below" in text) == (left_out > 0)
    assert counts[0.5] < counts[30] < counts[Arguments.smallest] < counts[0]
    largest = next(iter(labels.values())).size
    for number in (1, 4):  # one class at two sizes: a speck and a square
        label = np.zeros((60 * number, 70 * number), np.uint8)
        label[: 20 * number, : 20 * number] = 1
        label[-number:, -number:] = 1
        assert len(regions(label, True, Arguments.smallest * label.size)[0]) == 1
    assert Arguments.smallest * largest > 1
    with pytest.raises(UserError, match="0 or more"):
        main(replace(arguments, smallest=-1))


FORMATS = [("cvat", None), ("labelstudio", None), ("coco", "mask"), ("coco", "polygon")]


@pytest.mark.parametrize("format, shape", FORMATS)
def test_masks_come_back_through_convert(predicted, format, shape, four_root, tmp_path):
    arguments, labels = predicted
    out = tmp_path / ("out.xml" if format == "cvat" else "out.json")
    main(replace(arguments, format=format, shape=shape, tolerance=0, instances=True, out=out))
    if format == "labelstudio":  # people accept the predictions
        out.write_text(out.read_text().replace('"predictions"', '"annotations"'))
    mine = tmp_path / "mine"
    shutil.copytree(four_root, mine, ignore=shutil.ignore_patterns("SegmentationClass"))
    line = [sys.executable, "-m", "datalist.prepare.convert", str(out), str(mine)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith(f"{len(labels)} masks\n"), done.stderr
    for name, label in labels.items():
        assert np.array_equal(read_mask(mine / "SegmentationClass" / f"{name}.png"), label)


@pytest.mark.parametrize("shape", ["mask", "polygon"])
@pytest.mark.parametrize("instances", [True, False])
def test_coco_round_trip(predicted, shape, instances):
    arguments, labels = predicted
    main(replace(arguments, shape=shape, instances=instances, tolerance=0))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(arguments.out))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(FOUR[1:])
    assert len(coco.getImgIds()) == len(labels)
    for image in coco.loadImgs(coco.getImgIds()):
        name = Path(image["file_name"]).stem
        assert (image["height"], image["width"]) == labels[name].shape
        label = np.zeros_like(labels[name])
        for one in coco.loadAnns(coco.getAnnIds(image["id"])):
            mask = coco.annToMask(one) > 0
            assert one["area"] == mask.sum() and not label[mask].any()
            assert one["bbox"] == list(cv2.boundingRect(mask.view(np.uint8)))
            label[mask] = one["category_id"]
        assert np.array_equal(label, labels[name])


def test_cvat_masks(predicted):
    arguments, labels = predicted
    main(replace(arguments, format="cvat"))
    top = ElementTree.parse(arguments.out).getroot()
    names = [one.text for one in top.findall("meta/task/labels/label/name")]
    assert top.tag == "annotations" and top.find("version").text == "1.1"
    assert len(top.findall("image")) == len(labels)
    for image in top.findall("image"):
        label = np.zeros((int(image.get("height")), int(image.get("width"))), np.uint8)
        for one in image.findall("mask"):
            box = ("left", "top", "width", "height")
            left, upper, width, height = (int(one.get(side)) for side in box)
            runs = [int(run) for run in one.get("rle").split(", ")]
            flat = np.repeat(np.arange(len(runs)) % 2, runs)
            box = label[upper : upper + height, left : left + width]
            box[flat.reshape(height, width) > 0] = 1 + names.index(one.get("label"))
        assert np.array_equal(label, labels[Path(image.get("name")).stem])


def test_cvat_and_labelstudio_polygons(predicted):
    arguments, labels = predicted
    main(replace(arguments, format="cvat", shape="polygon", tolerance=0, instances=True))
    second = replace(arguments, out=arguments.out.with_suffix(".json"))
    main(replace(second, format="labelstudio", tolerance=0, instances=True))
    top = ElementTree.parse(arguments.out).getroot()
    tasks = json.loads(arguments.out.with_suffix(".json").read_text())
    view = ElementTree.parse(arguments.out.with_suffix(".xml")).getroot()
    names = [one.get("value") for one in view.iter("Label")]
    assert view.find("PolygonLabels").get("name") == "label"
    assert len(tasks) == len(labels)
    for image, task in zip(top.findall("image"), tasks):
        name = image.get("name")
        assert task["data"]["image"] == f"/data/local-files/?d={name}"
        size = labels[Path(name).stem].shape
        (prediction,) = task["predictions"]
        pairs = list(zip(image.findall("polygon"), prediction["result"], strict=True))
        painted_labels = np.zeros((2, *size), np.uint8)
        for polygon, result in pairs:
            value = result["value"]
            assert value["polygonlabels"] == [polygon.get("label")]
            assert (result["original_height"], result["original_width"]) == size
            first = [float(n) for pair in polygon.get("points").split(";") for n in pair.split(",")]
            second = np.array(value["points"]) / 100 * size[::-1]
            for label, path in zip(painted_labels, (first, second)):
                label[filled([path], size)] = 1 + names.index(polygon.get("label"))
        assert (painted_labels == labels[Path(name).stem]).all()


@pytest.mark.parametrize("form", ["yolo", "labelme"])
def test_folders_of_polygons_give_back_the_labels(predicted, form):
    """By the documented rules: shares of the sides, classes from 0; points in pixels."""
    arguments, labels = predicted
    out = arguments.out.with_name(form)
    main(replace(arguments, format=form, out=out, shape=None, smallest=0, tolerance=0.0))
    files = sorted(out.glob("labels/*.txt" if form == "yolo" else "*.json"))
    assert [file.stem for file in files] == sorted(labels)
    for file in files:
        label = labels[file.stem]
        read = []
        if form == "yolo":
            for line in file.read_text().splitlines():
                index, *corners = line.split()
                values = np.array(corners, float).reshape(-1, 2)
                assert len(values) >= 3 and values.min() >= 0 and values.max() <= 1
                read.append((int(index) + 1, values * label.shape[::-1]))
        else:
            content = json.loads(file.read_text())
            assert (content["imageHeight"], content["imageWidth"]) == label.shape
            assert Path(content["imagePath"]).stem == file.stem and content["imageData"] is None
            for shape in content["shapes"]:
                assert shape["shape_type"] == "polygon"
                read.append((FOUR.index(shape["label"]), np.array(shape["points"])))
        painted_label = np.zeros(label.shape, np.uint8)
        for index, path in read:
            painted_label[filled([path.round(2)], label.shape)] = index
        assert np.array_equal(painted_label, np.where(label == 255, 0, label))
    if form == "yolo":
        names = yaml.safe_load((out / "data.yaml").read_text())["names"]
        assert names == dict(enumerate(FOUR[1:]))
    with pytest.raises(UserError, match="exists"):
        main(replace(arguments, format=form, out=out, shape=None))
    with pytest.raises(UserError, match="reads polygons"):
        main(replace(arguments, format=form, out=out, shape="mask"))


def test_geojson_gives_back_the_labels(predicted):
    arguments, labels = predicted
    out = arguments.out.with_name("geojson")
    main(replace(arguments, format="geojson", out=out, smallest=0, tolerance=0.0, instances=True))
    files = sorted(out.iterdir())
    assert [file.stem for file in files] == sorted(labels)
    for file in files:
        label = labels[file.stem]
        content = json.loads(file.read_text())
        assert content["type"] == "FeatureCollection"
        x, y = (side.ravel() + 0.5 for side in np.meshgrid(*map(np.arange, label.shape[::-1])))
        painted = np.zeros(label.size, np.uint8)
        for feature in content["features"]:
            shape = shapely.make_valid(shapely.geometry.shape(feature["geometry"]))
            facts = feature["properties"]
            assert shape.area == facts["pixels"] and facts["class"] == FOUR[facts["index"]]
            for polygon in feature["geometry"]["coordinates"]:
                rings = [shapely.LinearRing(path) for path in polygon]
                assert [ring.is_ccw for ring in rings] == [k == 0 for k in range(len(rings))]
            painted[shapely.contains_xy(shape, x, y)] = facts["index"]
        assert np.array_equal(painted.reshape(label.shape), np.where(label == 255, 0, label))
    assert any(len(polygon) > 1 for file in files for feature in json.loads(file.read_text())
               ["features"] for polygon in feature["geometry"]["coordinates"])  # fmt: skip


def test_geojson_of_georeferenced_labels_is_in_degrees(predicted):
    rasterio = pytest.importorskip("rasterio")
    arguments, labels = predicted
    name, label = next(iter(labels.items()))
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(2.0, 0, 500_000, 0, -2.0, 5_200_000)}
    with rasterio.open(
        arguments.folder / f"label/{name}.tif", "w", driver="GTiff", height=label.shape[0],
        width=label.shape[1], count=1, dtype="uint8", **place,
    ) as file:  # fmt: skip
        file.write(label, 1)
    out = arguments.out.with_name("geojson")
    main(replace(arguments, format="geojson", out=out, tolerance=0.0))
    for path in out.iterdir():
        features = json.loads(path.read_text())["features"]
        shapes = [shapely.geometry.shape(feature["geometry"]) for feature in features]
        left, low, right, high = shapely.union_all([s.envelope for s in shapes]).bounds
        if path.stem == name:  # 500 km east in zone 32 is 9 degrees
            assert 9 <= left < right < 9.01 and 46.9 < low < high < 47
            assert max(map(abs, (left - 9, right - 9))) < 2 * label.shape[1] / 75_000
        else:
            assert right > 20 and high > 20


def test_cutouts_are_the_pixels_of_the_objects(predicted, four_root):
    arguments, labels = predicted
    out = arguments.out.with_name("cutouts")
    main(replace(arguments, format="cutouts", out=out, smallest=0, instances=False))
    spec = resolve(str(four_root))
    seen = 0
    for name, label in labels.items():
        image = read_image(spec.image_path(name))
        for index in set(np.unique(label)) - {0, 255}:
            (path,) = out.glob(f"{name}_{FOUR[index]}_*.png")
            mask = label == index
            left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
            with Image.open(path) as file:
                assert file.mode == "RGBA" and file.size == (width, height)
                pixels = np.asarray(file)
            box = np.s_[top : top + height, left : left + width]
            assert np.array_equal(pixels[..., 3] == 255, mask[box])
            assert np.array_equal(pixels[..., :3][mask[box]], image[box][mask[box]])
            seen += 1
    assert seen == len(list(out.iterdir())) > 0
    for change in ({"shape": "polygon"}, {"dataset": "", "classes": Path("classes.txt")}):
        with pytest.raises(UserError, match="cutouts are masks"):
            main(replace(arguments, format="cutouts", out=out, **change))


@given(mask=hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7)))
def test_runs(mask):
    runs = row_runs(mask)
    assert all(run > 0 for run in runs[1:])
    assert np.array_equal(np.repeat(np.arange(len(runs)) % 2, runs), mask.ravel())


def test_command_and_refusals(predicted, tmp_path, four_root):
    arguments, labels = predicted
    line = [sys.executable, "-m", "utils.report.annotate", str(arguments.folder)]
    line += ["--format", "cvat", "--out", str(arguments.out)]
    done = subprocess.run([*line, "--dataset", str(four_root)], capture_output=True, text=True)
    assert done.returncode == 0 and f"in {len(labels)} images" in done.stdout, done.stderr
    arguments.out.unlink()
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: class names come from")
    classes = tmp_path / "classes.txt"
    classes.write_text("background\nrust\n")
    few = replace(arguments, dataset="", classes=classes)
    with pytest.raises(UserError, match=r"\.png holds the value"):
        main(few)
    with pytest.raises(UserError, match="holds no label PNGs"):
        main(replace(arguments, folder=tmp_path))
    with pytest.raises(UserError, match="labelstudio reads polygons"):
        main(replace(arguments, format="labelstudio", shape="mask"))
    write_mask(arguments.folder / "label/other.png", np.zeros((3, 3), np.uint8))
    with pytest.raises(UserError, match=r"label/other\.png: image 'other'"):
        main(arguments)
    assert not arguments.out.exists()
    classes.write_text("background\na\nb\nc\n")
    main(few)
    assert json.loads(arguments.out.read_text())["images"][0]["file_name"] == "other.jpg"
