"""Large pictures in windows: geometry, no seams, the same files, and memory."""

import tracemalloc
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made import layout
from test_infer import CLASSES, label_of, photo, predict_one, saved

from base import UserError, tile
from base.tile import Axis, Tiling, choose_window
from datalist.dataset import Images
from datalist.georeference import read_place
from datalist.image import PictureFile, read_image, read_mask, write_mask
from datalist.spec import resolve
from method import restore
from utils import checkpoint, large
from utils.cover import read_covers
from utils.flags import Predict
from utils.infer import check, predict_split
from utils.loop import usual_size
from utils.output import output_path, read_score, upsample

CPU = torch.device("cpu")


# -- geometry ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting, usual, size, expected",
    [
        ("auto", (60, 80), (120, 160), None),
        ("auto", (60, 80), (121, 160), (64, 96)),
        ("auto", (60, 80), (50, 161), (50, 96)),
        ("auto", None, (9000, 9000), None),
        ("off", (60, 80), (9000, 9000), None),
        (64, None, (64, 64), None),
        (64, (600, 800), (64, 65), (64, 64)),
        (64, None, (1, 500), (1, 64)),
    ],
)
def test_which_pictures_are_tiled(setting, usual, size, expected):
    assert choose_window(setting, usual, size) == expected


@given(st.integers(1, 5000), st.integers(16, 900))
def test_windows_are_about_an_eighth_larger_where_fewer_suffice(length, side):
    window = tile.fit(length, side)
    assert min(side, length) <= window <= max(side, side * 9 / 8 + 8)
    starts = Axis(length, window).starts
    overlaps = [first + window - second for first, second in pairwise(starts)]
    assert min(overlaps, default=window) >= window // tile.OVERLAP
    assert len(starts) <= len(Axis(length, min(side, length)).starts)


side = st.integers(1, 2500)


@settings(max_examples=60, deadline=None)
@given(side, side, st.integers(1, 700), st.integers(1, 700), st.integers(0, 90), st.integers(1, 5))
def test_blocks_cover_a_picture_once(height, width, rows, columns, margin, unit):
    window = min(rows, height), min(columns, width)
    tiling = Tiling((height, width), window, margin, unit)
    covered = np.zeros((height, width), int)
    for row in tiling.blocks:
        for block in row:
            covered[block.core_rows, block.core_columns] += 1
            inside, part = block.inside, (block.rows, block.columns)
            core = block.core_rows, block.core_columns
            for axis, length in enumerate((height, width)):
                assert core[axis].start % unit == 0
                assert part[axis].start == max(0, core[axis].start - margin)
                assert part[axis].stop == min(length, core[axis].stop + margin)
                assert part[axis].start + inside[axis].start == core[axis].start
                assert part[axis].start + inside[axis].stop == core[axis].stop
    assert (covered == 1).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 500), st.data())
def test_weights_of_windows_are_one_in_sum(length, window, data):
    axis = Axis(length, min(length, window))
    assert axis.starts[0] == 0 and axis.starts[-1] == length - axis.window
    first = data.draw(st.integers(0, length - 1))
    part = slice(first, data.draw(st.integers(first + 1, length)))
    total = np.zeros(part.stop - first)
    for weight in axis.weights(part).values():
        assert (weight >= 0).all()
        total += weight
    np.testing.assert_allclose(total, 1)


@pytest.mark.parametrize(
    "size, cells", [((90, 70), (9, 14)), ((64, 300), (8, 5)), ((1, 2000), (1, 9))]
)
def test_scores_of_windows_become_one_map(monkeypatch, size, cells):
    """Blocks are parts of the mean of all enlarged windows, weighted by squared sines."""
    monkeypatch.setattr(tile, "BLOCK", 40 * 40)
    rng, window = np.random.default_rng(0), (min(size[0], 40), min(size[1], 50))
    tiling = Tiling(size, window, margin=3)
    total, weights, scores = np.zeros((2, *size)), np.zeros(size), {}
    hump = [np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in window]
    for row, top in enumerate(tiling.rows.starts):
        for column, left in enumerate(tiling.columns.starts):
            scores[row, column] = rng.random((2, *cells), np.float32)
            part = slice(top, top + window[0]), slice(left, left + window[1])
            weight = hump[0][:, None] * hump[1]
            total[:, part[0], part[1]] += weight * upsample(scores[row, column], window)
            weights[part] += weight
    blocks = [block for row in tiling.blocks for block in row]
    assert len(blocks) > 1
    for block in blocks:
        expected = (total / weights)[:, block.rows, block.columns]
        np.testing.assert_allclose(tiling.blend(scores, block), expected, atol=1e-5)


# -- the same labels ----------------------------------------------------------------------------


class Colours(torch.nn.Module):
    """Classes by the colour around a position, at stride 4: a smooth network of local view.

    Its convolutions fill up with the mean colour, so that it sees less well at the edges.
    """

    def __init__(self, count: int):
        super().__init__()
        self.colour = torch.rand(count, 3, generator=torch.Generator().manual_seed(0)) * 255

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        cells = torch.nn.functional.avg_pool2d(image.float() - 127, 4, ceil_mode=True)
        for _ in range(2):
            cells = torch.nn.functional.avg_pool2d(cells, 3, 1, 1)
        return -torch.cdist(cells.movedim(1, -1), self.colour - 127).movedim(-1, 1) / 4


def colours(folder: Path, name: str = "supervised", usual=(100, 120), **changes):
    """A stage whose network sees the image at its own size, a few cells around a position."""
    _, stage = saved(folder, name, CLASSES[:6], fit="crop", **changes)
    stage.network = Colours(6)
    stage.spec = replace(stage.spec, usual_size=usual)
    return stage


run = partial(predict_one, threads=2, save=("label",), longest=0)


def label_by(*arguments, **flags) -> np.ndarray:
    return label_of(run(*arguments, **flags))


@pytest.mark.parametrize(
    "size, setting", [((200, 240), "auto"), ((90, 70), "auto"), ((90, 90), 90)]
)
def test_pictures_that_need_no_tiles_are_predicted_as_before(tmp_path, monkeypatch, size, setting):
    stage = colours(tmp_path)
    cv2.imwrite(str(tmp_path / "a.png"), photo(*size))
    monkeypatch.setattr("utils.infer.predict_large", None)
    flags = {"save": ("label", "score"), "crf": True}
    for tiled in ("off", setting):
        run(stage, tmp_path / str(tiled), tmp_path / "a.png", tile=tiled, **flags)
    for name in ("label/a.png", "score/a.npz"):
        whole, other = (tmp_path / str(tiled) / name for tiled in ("off", setting))
        assert whole.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("crf", [False, True])
def test_tiling_leaves_no_seams(tmp_path, monkeypatch, crf):
    """Windows and blocks that lie elsewhere give the same labels at 99.5 % of the pixels."""
    monkeypatch.setattr(tile, "BLOCK", 200 * 200)
    stage = colours(tmp_path, test_crf="deeplab", test_crf_scale=4.0)
    coarse = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    picture = cv2.resize(coarse, (900, 700), interpolation=cv2.INTER_CUBIC)
    # The CRF's lattice alone moves some borders by a pixel where a picture lies between cells.
    down, right = (36, 52) if crf else (37, 53)
    labels = []
    for name, top, left in (("a", 0, 0), ("b", down, right)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture[top:, left:])
        labels.append(label_by(stage, tmp_path / "out", tmp_path / f"{name}.png", crf=crf))
    assert len(np.unique(labels[0])) >= 4
    assert (labels[0][down:, right:] != labels[1]).mean() < 0.005
    whole = label_by(stage, tmp_path / "off", tmp_path / "a.png", crf=crf, tile="off")
    assert (labels[0] != whole).mean() < 0.005


def test_files_of_a_large_picture(tmp_path, monkeypatch):
    """Score and overlay have at most `work_pixels`; the label is that of the score."""
    stage = colours(tmp_path)
    cv2.imwrite(str(tmp_path / "a.png"), photo(700, 900))
    save = ("label", "score", "overlay", "cover")
    predict = run(stage, tmp_path / "out", tmp_path / "a.png", save=save, work_pixels=40_000)
    label = read_mask(output_path(predict.out, "label", "a"))
    score = read_score(output_path(predict.out, "score", "a"))
    assert label.shape == score.size == (700, 900) and score.score.shape[1:] == (175, 225)
    small = score.keys[score.score.argmax(0)]
    assert (small == label[2::4, 2::4]).mean() > 0.97
    cover = read_covers(predict.out)["a"]
    shares = 100 * np.bincount(label.ravel(), minlength=len(cover["percent"])) / label.size
    assert list(cover["percent"].values()) == pytest.approx(shares, abs=1e-4)
    assert cover["confidence"] == pytest.approx(score.score.max(0).mean() / 255, abs=0.02)
    assert 0 <= cover["difference"] <= 1 and (cover["height"], cover["width"]) == label.shape
    overlay = read_image(output_path(predict.out, "overlay", "a"))
    times = overlay.shape[0] // 175  # enlarged for the legend
    shown = cv2.resize(overlay[:, : 225 * times], (225, 175), interpolation=cv2.INTER_AREA)
    expected = cv2.resize(read_image(tmp_path / "a.png"), (225, 175), interpolation=cv2.INTER_AREA)
    assert np.abs(shown.astype(int) - expected).mean() < 3
    assert {path.name for path in predict.out.iterdir()} == set(save)


def test_windows_are_shrunk_as_pictures_of_their_size(tmp_path):
    """A window of more than `work_pixels` is seen at a whole part of its size."""
    stage = colours(tmp_path)
    cv2.imwrite(str(tmp_path / "a.png"), photo(700, 901))
    sizes = []
    view = stage.view
    stage.view = lambda image: (sizes.append(tuple(image.shape[-2:])), view(image))[1]
    label = label_by(stage, tmp_path / "out", tmp_path / "a.png", work_pixels=100 * 120 // 4)
    assert set(sizes) == {(56, 64)} and label.shape == (700, 901)
    assert (label[:, :-1:2] == label[:, 1::2]).mean() > 0.99
    fine = label_by(stage, tmp_path / "fine", tmp_path / "a.png")
    assert (label == fine).mean() > 0.9


def test_tags_restrict_windows_too(tmp_path):
    root = layout(tmp_path / "own", CLASSES[:6], {"a": (2, 4), "b": (1,)}, val=["a", "b"])
    cv2.imwrite(str(root / "JPEGImages/a.png"), photo(300, 400))
    cv2.imwrite(str(root / "JPEGImages/b.png"), photo(80, 90))
    stage = colours(tmp_path)
    stage.spec = replace(resolve(str(root)), usual_size=(100, 120))
    predict = Predict(tmp_path / "out", quiet=True, restrict_to_tags=True)
    assert predict_split(stage, predict, CPU, 2) == []
    assert set(np.unique(read_mask(predict.out / "label/a.png"))) == {0, 2, 4}
    assert set(np.unique(read_mask(predict.out / "label/b.png"))) <= {0, 1}


# -- files ------------------------------------------------------------------------------------


def test_a_tiff_is_read_in_windows_and_its_label_lies_there(tmp_path, monkeypatch):
    rasterio = pytest.importorskip("rasterio")
    stage, pixels = colours(tmp_path), photo(700, 900)
    cv2.imwrite(str(tmp_path / "png.png"), pixels[..., ::-1])
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=700, width=900, count=3, dtype="uint8",
        photometric="rgb", tiled=True, blockxsize=64, blockysize=64, compress="deflate",
        crs="EPSG:32632", transform=rasterio.Affine(0.1, 0, 4e5, 0, -0.1, 5e6),
    ) as file:  # fmt: skip
        file.write(pixels.transpose(2, 0, 1))
    expected = label_by(stage, tmp_path / "png", tmp_path / "png.png")
    monkeypatch.setattr(PictureFile, "_decoded", None)
    monkeypatch.setattr("datalist.image.STRIP", 900 * 100)
    monkeypatch.setattr(large, "STRIP", 900 * 100)
    label = label_by(stage, tmp_path / "out", tmp_path / "a.tif")
    assert np.array_equal(label, expected)
    written = tmp_path / "out/label/a.tif"
    with rasterio.open(written) as file:
        assert np.array_equal(file.read(1), label)
    size = (700, 900)
    assert str(read_place(written, size)) == str(read_place(tmp_path / "a.tif", size))


def test_a_damaged_one_is_left_out_and_stops_no_other(tmp_path):
    stage = colours(tmp_path)
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (700, 900, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "in/a.tif", noise, photometric="rgb", tile=(64, 64),
                     compression="zlib")  # fmt: skip
    data = bytearray((tmp_path / "in/a.tif").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 5000] = bytes(5000)
    (tmp_path / "in/a.tif").write_bytes(data)
    cv2.imwrite(str(tmp_path / "in/b.png"), photo(300, 400))
    predict = Predict(tmp_path / "out", image=(tmp_path / "in",), longest=0, quiet=True)
    errors = predict_split(stage, predict, CPU, 2)
    assert len(errors) == 1 and "a.tif is not a readable TIFF" in errors[0]
    assert [path.name for path in (tmp_path / "out/label").iterdir()] == ["b.png"]


@pytest.mark.parametrize("name", ["cam", "seam", "segmenter", "cue-foreground"])
def test_scores_relative_to_a_whole_picture_are_not_tiled(tmp_path, name):
    _, stage = saved(tmp_path, name, CLASSES[:4])
    stage.spec = replace(stage.spec, usual_size=(20, 20))
    cv2.imwrite(str(tmp_path / "a.png"), photo(60, 90))
    with pytest.raises(UserError, match="the whole picture"):
        check(stage, Predict(tile=64))
    outs = [run(stage, tmp_path / s, tmp_path / "a.png", save=("score",), tile=s).out
            for s in ("auto", "off")]  # fmt: skip
    assert len({(out / "score/a.npz").read_bytes() for out in outs}) == 1


def test_recurseed_is_tiled_where_its_decoder_predicts(tmp_path):
    stage = saved(tmp_path, "rsepm", CLASSES[:4])[1]
    stage.presence = 0.0
    check(stage, Predict(tile=64))
    for presence, tags in ((0.3, False), (0.0, True)):
        stage.presence = presence
        with pytest.raises(UserError, match="the whole picture"):
            check(stage, Predict(tile=64, restrict_to_tags=tags))


def test_a_window_has_pixels(tmp_path):
    with pytest.raises(UserError, match="16 pixels a side or more"):
        check(colours(tmp_path), Predict(tile=4))


# -- checkpoints --------------------------------------------------------------------------------


def test_a_checkpoint_knows_the_usual_size(tmp_path):
    path, _ = saved(tmp_path)
    content = checkpoint.load(path)
    assert restore.restore(path, content, photos=True).spec.usual_size is None
    content["usual_size"] = (30, 40)
    assert restore.restore(path, content, photos=True).spec.usual_size == (30, 40)
    for wrong in ((30,), (0, 40), (30, 40.5), "30", {"a": 1}, (1 << 40, 2)):
        with pytest.raises(UserError, match="size of its training images is damaged"):
            restore.restore(path, content | {"usual_size": wrong}, photos=True)


def test_the_usual_size_is_the_median_of_the_training_images(tmp_path):
    sizes = {"a": (30, 50), "b": (31, 40), "c": (90, 45), "d": (1, 900)}
    root = layout(tmp_path / "own", ("background", "x"), train=list("abc"), all=list("abcd"))
    for name, size in sizes.items():
        cv2.imwrite(str(root / f"JPEGImages/{name}.png"), photo(*size))
    spec = resolve(str(root))
    assert usual_size(Images(spec, "train", tag=False)) == (31, 45)
    assert usual_size(Images(spec, "all", tag=False), most=2) == (60, 48)  # of a and c
    assert usual_size([1, 2]) is None


# -- memory -----------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_height_of_a_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(tile, "BLOCK", 200 * 200)
    monkeypatch.setattr("datalist.image.STRIP", 1 << 18)
    monkeypatch.setattr(large, "STRIP", 1 << 18)
    monkeypatch.setattr("datalist.tiff.KEPT", 1 << 20)
    stage, peaks = colours(tmp_path), []
    for height in (800, 4800):
        tifffile.imwrite(tmp_path / "a.tif", photo(height, 1000), photometric="rgb",
                         tile=(64, 64), compression="zlib")  # fmt: skip
        tracemalloc.start()
        label = label_by(stage, tmp_path / "out", tmp_path / "a.tif", work_pixels=50_000)
        peaks.append(tracemalloc.get_traced_memory()[1] - label.nbytes)
        tracemalloc.stop()
        assert label.shape == (height, 1000)
    assert peaks[1] < 1.2 * peaks[0], peaks  # the taller picture has 14.4 MB, alone


def test_labels_of_pictures_larger_than_files_may_be_are_read(tmp_path, monkeypatch):
    """Pictures of so many pixels are TIFFs, but their labels are PNGs."""
    monkeypatch.setattr("datalist.image.opened.__defaults__", (1000,))
    write_mask(tmp_path / "a.png", np.zeros((40, 50), np.uint8))
    assert read_mask(tmp_path / "a.png").shape == (40, 50)
    with pytest.raises(UserError, match="million pixels"):
        read_image(tmp_path / "a.png")


def test_masks_are_written_in_strips(tmp_path, monkeypatch):
    monkeypatch.setattr("datalist.image.STRIP", 1)
    mask = np.random.default_rng(0).integers(0, 256, (700, 33)).astype(np.uint8)
    write_mask(tmp_path / "a.png", mask)
    assert np.array_equal(read_mask(tmp_path / "a.png"), mask)
