"""What RecurSeed's exported program predicts without tags is what test.py predicts."""

import sys

import numpy as np
from program import execute, run

from datalist.image import read_mask


def test_labels_of_predict_py_are_those_of_test_py(scenes_root, tmp_path):
    data = ("--dataset", scenes_root, "--recipe", "smoke", "--quiet")
    # Few classes pass this threshold, and not the same ones in all images.
    run("train.py", "rsepm", *data, "--presence", 0.5, "--out", tmp_path / "run")
    network, photos = tmp_path / "run/last.pt", scenes_root / "JPEGImages"
    options = ("--crf", "--save", "label", "--quiet", "--out", tmp_path / "test")
    run("test.py", network, "--image", photos, *options)
    run("export.py", network, "--out", tmp_path / "home")
    predict = [tmp_path / "home/predict.py", photos, "--out", tmp_path / "home/out"]
    execute([sys.executable, *map(str, predict)])
    shown = set()
    for path in sorted((tmp_path / "test/label").iterdir()):
        label = read_mask(path)
        shown |= set(np.unique(label))
        assert np.array_equal(label, read_mask(tmp_path / "home/out" / path.name)), path.name
    assert len(shown) > 1
