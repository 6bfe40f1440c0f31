"""Runs and folders that know what they were made from."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from recipes import change

from base import UserError
from datalist.cue import CueFile
from datalist.dataset import Images
from datalist.image import write_mask
from datalist.spec import resolve
from method.segment import DeepLab
from utils import checkpoint, checksum
from utils.flags import Predict, Train
from utils.loop import train
from utils.record import keep_settings


@pytest.fixture
def own(four_root, tmp_path):
    """A copy of the folder of four classes, which a test may change."""
    shutil.copytree(four_root, tmp_path / "own")
    return tmp_path / "own"


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def of_folder(root, **options):
    return checksum.of_images(Images(resolve(str(root)), "train", (8, 8), **options))


def test_changed_tags_and_lists_are_counted(own):
    before = of_folder(own)
    assert checksum.changes(before, of_folder(own)) == []
    edit(own / "tags.csv", "wall-2,crack", "wall-2,rust")
    assert checksum.changes(before, of_folder(own)) == ["tags of 1 of 8 images"]
    edit(own / "ImageSets/Segmentation/train.txt", "wall-0\n", "")
    edit(own / "ImageSets/Segmentation/train.txt", "wall-1\n", "wall-1\nwall-8\nwall-9\n")
    changed = checksum.changes(before, of_folder(own))
    assert changed == ["list of images: 2 added, 1 removed", "tags of 1 of 9 images"]


def test_changed_masks_and_cues_are_counted(own, four_cue):
    masks = own / "SegmentationClass"
    before = of_folder(own, mask=masks)
    mask = np.zeros((50, 50), np.uint8)
    for number in range(2):
        mask[number, 0] = 1
        write_mask(masks / "wall-3.png", mask)
        assert checksum.changes(before, of_folder(own, mask=masks)) == ["masks of 1 of 8 images"]
        before = of_folder(own, mask=masks)  # one pixel more, in a file of the same size
    cues = CueFile.open(four_cue)
    before = of_folder(own, cue=cues)
    cell = cues.cell.copy()
    cell[cues.offset[2]] += 1
    after = of_folder(own, cue=replace(cues, cell=cell))
    assert checksum.changes(before, after) == ["cues of 1 of 8 images"]


def test_wrong_masks_of_a_network_are_left_out_and_count_as_changed(own, tmp_path):
    spec = resolve(str(own))
    shutil.copytree(spec.mask_folder, tmp_path / "label")
    before = of_folder(own, mask=tmp_path / "label")
    text = (own / "tags.csv").read_text()
    first = next(line for line in text.splitlines() if line.endswith(("crack", "rust")))
    rest = [line for line in text.splitlines() if line.startswith("wall") and line != first]
    marked = []
    for line in [*rest, first]:
        name, *tags = line.split(",")
        marked.append(",".join([name, ";".join(tags), "wrong" if line == first else ""]))
    (own / "tags.csv").write_text("\n".join(["id,tags,mask", *marked]) + "\n")
    after = of_folder(own, mask=tmp_path / "label")
    assert checksum.changes(before, after) == ["masks of 1 of 8 images"]
    images = Images(resolve(str(own)), "train", mask=tmp_path / "label")
    row = images.ids.index(first.split(",")[0])
    assert (images[row]["mask"] == 255).all() and images[row]["tag"].any()
    assert sum(bool((item["mask"] == 255).all()) for item in images) == 1
    true = Images(resolve(str(own)), "train", mask=spec.mask_folder)
    assert not (true[row]["mask"] == 255).all()  # true masks stay


def test_masks_of_one_size_differ_in_their_last_bytes(tmp_path):
    """Only the ends of files are read: a PNG's last bytes are a checksum of all its pixels."""
    mask = np.random.default_rng(0).integers(0, 3, (300, 400)).astype(np.uint8)
    for name, pixel in (("a", 0), ("b", 1), ("c", 0)):
        mask[0, 0] = pixel
        write_mask(tmp_path / f"{name}.png", mask)
    checksums = checksum.folder_checksums(tmp_path, ["a", "b", "c", "none"], ".png")
    assert checksums["a"] == checksums["c"] != checksums["b"]
    assert checksums["none"] == 0


@pytest.mark.parametrize("stored", [None, 3, {}, {"tags": 3}, {"other": {"a": 1}}])
def test_checkpoints_without_known_inputs_change_nothing(stored):
    assert checksum.changes(stored, {"tags": {"a": 1}}) == []


def deeplab(root, **values):
    recipe = change(DeepLab.recipes["smoke"], dataset=str(root), **values)
    return DeepLab(recipe, resolve(str(root)))


def test_a_run_refuses_other_masks_until_it_is_fresh(own, tmp_path):
    masks, out = own / "SegmentationClass", tmp_path / "out"
    run = Train(out, device="cpu", quiet=True, picture_every=0)
    assert train(deeplab(own, mask=str(masks)), "deeplab", run)
    record = json.loads((out / "recipe.json").read_text())["inputs"]
    assert record["list of images"]["count"] == record["masks"]["count"] == 8
    fresh = replace(run, fresh=True)
    assert not train(deeplab(own, mask=str(masks)), "deeplab", fresh)  # nothing changed
    shutil.copy(masks / "wall-1.png", masks / "wall-3.png")
    shutil.copy(own / "JPEGImages/wall-1.jpg", own / "JPEGImages/wall-3.jpg")
    with pytest.raises(UserError, match="content of 1 of 8 images; masks of 1 of 8 images"):
        train(deeplab(own, mask=str(masks)), "deeplab", run)
    old = checkpoint.load(out / "last.pt")
    assert train(deeplab(own, mask=str(masks)), "deeplab", fresh)
    kept = checkpoint.load(out / "old-1/last.pt")
    assert kept["inputs"] == old["inputs"] != checkpoint.load(out / "last.pt")["inputs"]
    assert {path.name for path in (out / "old-1").iterdir()} >= {"log.jsonl", "recipe.json"}
    with pytest.raises(UserError, match=r"another recipe \(lr: .* -> 0.5\): add --fresh"):
        train(deeplab(own, mask=str(masks), lr=0.5), "deeplab", run)
    assert train(deeplab(own, mask=str(masks), lr=0.5), "deeplab", fresh)
    assert (out / "old-2/last.pt").is_file()


def test_start_checkpoints_are_inputs(own, tmp_path):
    start = tmp_path / "start.pt"
    start.write_bytes(b"one")
    stage = deeplab(own, mask=str(own / "SegmentationClass"), start=str(start))
    before = checksum.of_stage(stage, stage.dataset())
    start.write_bytes(b"two")
    now = checksum.of_stage(stage, stage.dataset())
    assert checksum.changes(before, now) == ["the file of --start"]


def test_predictions_of_other_tags_are_refused_until_fresh(four_root, tmp_path):
    network, stage = tmp_path / "last.pt", deeplab(four_root)
    network.write_bytes(b"network")
    predict = Predict(tmp_path / "out", save=("cue",))
    keep_settings(predict, network, stage, {"a": (1,)})
    (tmp_path / "out/cue").mkdir()
    keep_settings(predict, network, stage, {"a": (1,)})
    with pytest.raises(UserError, match=r"tags: .* add --fresh"):
        keep_settings(predict, network, stage, {"a": (1, 2)})
    assert (tmp_path / "out/cue").is_dir()
    keep_settings(replace(predict, fresh=True), network, stage, {"a": (1, 2)})
    assert (tmp_path / "out/old-1/cue").is_dir() and not (tmp_path / "out/cue").exists()
    keep_settings(predict, network, stage, {"a": (1, 2)})
    # A setting that the record of an earlier version lacks had its default.
    record = json.loads((tmp_path / "out/predict.json").read_text())
    assert record["classes"] == list(stage.spec.classes) and record["split"] == "val"
    del record["settings"]["mirror"]
    (tmp_path / "out/predict.json").write_text(json.dumps(record))
    keep_settings(predict, network, stage, {"a": (1, 2)})
    with pytest.raises(UserError, match="mirror: False -> True"):
        keep_settings(replace(predict, mirror=True), network, stage, {"a": (1, 2)})
