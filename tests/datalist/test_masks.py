"""Masks whose numbers mean something else: `check` says so, `masks` numbers them anew."""

import numpy as np
import pytest
from made import layout
from PIL import Image

from base import UserError
from datalist.image import read_mask, write_mask
from datalist.prepare.check import inspect
from datalist.prepare.masks import Arguments, convert
from datalist.spec import resolve

CLASSES = ("background", "cat", "dog", "bird")
SIZE = (12, 16)
TAGS = {f"p{k}": row for k, row in enumerate([(1,), (2,), (3,), (1, 2), (2, 3), (1,), (2,), ()])}


def picture_of(tags):
    mask = np.zeros(SIZE, np.uint8)
    for row, tag in enumerate(tags):
        mask[4 * row : 4 * row + 3, 2:12] = tag
    return mask


@pytest.fixture
def root(tmp_path):
    root = layout(tmp_path / "data", CLASSES, TAGS, train=list(TAGS), val=list(TAGS))
    rng = np.random.default_rng(0)
    for name in TAGS:
        image = rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(image).save(root / f"JPEGImages/{name}.jpg")
    return root


def masks_of(root, change=lambda mask, name: mask):
    for name, tags in TAGS.items():
        write_mask(root / f"SegmentationClass/{name}.png", change(picture_of(tags), name))


def said(root):
    report = inspect(resolve(str(root)), ["val"])
    return report.groups["masks"], [line for line in report.lines if "tags differ" in line]


def run(sentence, root, **changes):
    """Run the command that a sentence of the check gives."""
    words = sentence.split("`python -m datalist.prepare.masks ")[1].split("`")[0]
    folder, _, flag, *pairs = words.split()
    assert flag == "--map"
    pairs = tuple(pair.strip("'") for pair in pairs)
    return convert(Arguments(changes.get("source", folder), root, map=changes.get("map", pairs)))


def test_masks_that_fit_are_silent(root):
    masks_of(root)
    assert said(root) == ([], [])


def test_0_and_255(root):
    masks_of(root, lambda mask, name: np.where(mask, 255, 0).astype(np.uint8))
    (error,), _ = said(root)
    assert "7 of 8 masks hold 0 and 255 alone and no class" in error and "255=TAG" in error
    before = read_mask(root / "SegmentationClass/p0.png")
    with pytest.raises(UserError, match=r"p3\.png: its picture has 2 tags, so TAG is none"):
        run(error, root, source=root / "SegmentationClass")
    assert np.array_equal(read_mask(root / "SegmentationClass/p0.png"), before)
    assert not list(root.glob(".Seg*"))
    for name, row in (("p3", "cat"), ("p4", "dog")):
        text = (root / "tags.csv").read_text().splitlines()
        text = [f"{name},{row}" if line.startswith(f"{name},") else line for line in text]
        (root / "tags.csv").write_text("\n".join(text) + "\n")
    run(error, root, source=root / "SegmentationClass")
    assert said(root) == ([], [])
    assert set(np.unique(read_mask(root / "SegmentationClass/p1.png"))) == {0, 2}
    assert np.array_equal(read_mask(root / "SegmentationClass.old-1/p0.png"), before)


def test_0_and_255_of_one_class(root):
    (root / "classes.txt").write_text("background\ncat\n")
    (root / "tags.csv").write_text("id,tags\n" + "".join(f"{name},cat\n" for name in TAGS))
    masks_of(root, lambda mask, name: np.where(mask, 255, 0).astype(np.uint8))
    (error,), _ = said(root)
    assert "255=cat" in error
    run(error, root, source=root / "SegmentationClass")
    assert set(np.unique(read_mask(root / "SegmentationClass/p1.png"))) == {0, 1}


ORDER = np.array([0, 3, 1, 2], np.uint8)


@pytest.mark.parametrize(
    ("change", "sentence", "command", "named"),
    [
        (lambda mask: ORDER[mask], "in another order", "'1=dog' '2=bird' '3=cat'", None),
        (
            lambda mask: mask - 1,  # background becomes 255
            "number the classes from 0",
            "'0=cat' '1=dog' '2=bird'",
            ("0=cat", "1=dog", "2=bird", "255=background"),
        ),
        (
            lambda mask: mask * 80,
            "hold the value 80, 160, 240",
            "7 masks, such as",
            ("80=cat", "160=dog", "240=bird"),
        ),
    ],
)
def test_other_numbers(root, change, sentence, command, named):
    masks_of(root, lambda mask, name: change(mask).astype(np.uint8))
    (error,), _ = said(root)
    assert sentence in error and command in error
    run(error, root, source=root / "SegmentationClass", **({"map": named} if named else {}))
    assert said(root) == ([], [])


def test_most_masks_of_0_and_255(root):
    masks_of(root, lambda m, name: m if name < "p2" else np.where(m, 255, 0).astype(np.uint8))
    (error,), _ = said(root)
    assert "5 of 8 masks hold 0 and 255 alone and no class" in error


def test_values_that_are_no_class(root):
    masks_of(root, lambda mask, name: (mask * 80).astype(np.uint8))
    with pytest.raises(UserError, match=r"p0\.png holds 80, which is not a class: give --map 80="):
        convert(Arguments(root / "SegmentationClass", root, map=("160=dog",)))


def test_a_palette_for_each_picture(root):
    colours = {0: (0, 0, 0), 1: (255, 0, 0), 2: (0, 255, 0), 3: (0, 0, 255)}
    for name, tags in TAGS.items():
        used = sorted({*tags, 0}, reverse=len(name) > 0 and name in ("p3", "p4"))
        numbers = np.zeros(4, np.uint8)
        numbers[used] = np.arange(len(used))
        image = Image.fromarray(numbers[picture_of(tags)], "P")
        image.putpalette([c for k in used for c in colours[k]])
        image.save(root / f"SegmentationClass/{name}.png")
    (error,), _ = said(root)
    assert "masks number their colours in their own ways" in error
    named = ("#000000=background", "#ff0000=cat", "#00ff00=dog", "#0000ff=bird")
    run(error, root, source=root / "SegmentationClass", map=named)
    assert said(root) == ([], [])


def test_single_differences_are_said(root):
    masks_of(root, lambda mask, name: mask if name != "p0" else np.where(mask, 3, 0).astype("u1"))
    errors, (line,) = said(root)
    assert not errors
    assert line.startswith("mask and tags differ in 1 of 8 images, such as 'p0'")
    assert line.endswith("its mask shows bird, its tags say cat.")


def test_masks_of_other_pictures(root):
    names = list(TAGS)
    rng = np.random.default_rng(1)
    masks_of(root)
    for name in names:  # nothing in common with the tags, in no order
        other = [k for k in (1, 2, 3) if k not in TAGS[name]]
        write_mask(root / f"SegmentationClass/{name}.png", picture_of([rng.choice(other)]))
    (error,), _ = said(root)
    assert "differ in 8 of 8 images" in error or "another order" in error


def test_colours_of_voc_and_names_with_an_ending(root, tmp_path):
    masks_of(root)
    wanted = {path.name: read_mask(path) for path in (root / "SegmentationClass").iterdir()}
    source = tmp_path / "rgb"
    (source / "x").mkdir(parents=True)
    for name in wanted:
        path = root / "SegmentationClass" / name
        Image.open(path).convert("RGB").save(source / "x" / name.replace(".png", "_mask.png"))
    (source / "other_mask.png").write_bytes((source / "x/p0_mask.png").read_bytes())
    _, count, notes = convert(Arguments(source, root, out=tmp_path / "index"))
    assert count == 8 and notes == ["1 masks have no picture, such as other_mask.png"]
    for name, mask in wanted.items():
        assert np.array_equal(read_mask(tmp_path / "index" / name), mask)
    assert not (root / "SegmentationClass.old-1").exists()


@pytest.mark.parametrize(
    "words, sentence",
    [
        (("1",), "not VALUE=CLASS"), (("1=horse",), "one of background, cat, dog, bird, ignore"),
        (("#12=cat",), "not VALUE=CLASS"), (("1=cat", "#ff0000=dog"), "numbers or colours"),
    ],
)  # fmt: skip
def test_wrong_maps_are_refused(root, words, sentence):
    masks_of(root)
    with pytest.raises(UserError, match=sentence):
        convert(Arguments(root / "SegmentationClass", root, map=words))


def test_masks_of_another_size_are_refused_and_nothing_is_written(root, tmp_path):
    masks_of(root)
    source = tmp_path / "masks"
    source.mkdir()
    write_mask(source / "p0.png", np.zeros(SIZE, np.uint8))
    write_mask(source / "p1.png", np.zeros((3, 3), np.uint8))
    before = sorted(path.name for path in root.rglob("*"))
    with pytest.raises(UserError, match=r"p1\.png is 3 x 3 pixels, its image 12 x 16"):
        convert(Arguments(source, root))
    assert sorted(path.name for path in root.rglob("*")) == before
