"""Prediction: memory bounds, images larger than the work size, presence, progress in a log."""

import io
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from made import CLASSES, layout, saved
from tqdm import tqdm

from base import UserError
from datalist.image import read_image, read_mask, write_mask
from datalist.spec import resolve
from utils import infer
from utils.flags import Predict, PredictFlags
from utils.infer import limit_pixels, predict_split
from utils.machine import MemoryBudget, memory_of
from utils.output import output_path, read_score, upsample, write_score
from utils.progress import progress

ROOT = Path(__file__).resolve().parents[2]


def photo(height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def predict_one(stage, folder, image, threads=1, **flags):
    """Predict a picture; gives its label and the settings."""
    flags = {"save": ("label", "score"), "quiet": True, **flags}
    predict = Predict(folder, image=(image,), **flags)
    assert predict_split(stage, predict, torch.device("cpu"), threads) == []
    return predict


def label_of(predict):
    return read_mask(output_path(predict.out, "label", predict.image[0].stem))


# -- memory -----------------------------------------------------------------------------------


def test_budget_is_never_exceeded_by_several():
    budget = MemoryBudget(10 / 2**30)
    held, worst, lock = [], [], threading.Lock()
    crowd = threading.Barrier(8)

    def work(need):
        crowd.wait()
        for _ in range(20):
            with budget.take(need):
                with lock:
                    held.append(need)
                    worst.append((sum(held), len(held)))
                with lock:
                    held.remove(need)

    threads = [threading.Thread(target=work, args=(need,)) for need in (3, 4, 5, 6, 2, 9, 1, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(worst) == 160 and budget.used == 0
    assert all(total <= 10 or count == 1 for total, count in worst)
    assert (25, 1) in worst  # what exceeds the limit alone runs alone


def test_budget_is_given_back_after_an_error():
    budget = MemoryBudget(1 / 2**30)
    with pytest.raises(ZeroDivisionError), budget.take(1.0):
        raise ZeroDivisionError
    with budget.take(1.0):
        assert budget.used == 1.0


def test_memory_grows_with_pixels_and_channels():
    assert memory_of(10, 20, 3) == memory_of(20, 10, 3) == 2 * memory_of(10, 10, 3)
    assert memory_of(10, 10, 9) > memory_of(10, 10, 3) >= 10 * 10 * 3 * 4


@pytest.mark.parametrize("size", [(50, 40), (400, 100), (20, 900), (1, 900), (900, 1)])
def test_shrink_keeps_the_shape_and_the_file_s_size(size):
    image = torch.from_numpy(photo(*size)).permute(2, 0, 1)
    sample = {"id": "a", "image": image, "size": torch.tensor(size)}
    assert (limit_pixels(sample, 2000) is sample) == (size[0] * size[1] <= 2000)
    small = limit_pixels(sample, 400)
    height, width = small["image"].shape[-2:]
    assert height * width <= 400 and small["size"].tolist() == list(size)
    factor = (400 / (size[0] * size[1])) ** 0.5
    assert height == min(400, max(1, int(size[0] * factor)))
    assert width == min(400, max(1, int(size[1] * factor)))
    assert small["image"].dtype == torch.uint8 and small["image"].is_contiguous()


MEASURE = """
import resource, runpy, sys
sys.argv = ["test.py", *sys.argv[1:]]
runpy.run_path("test.py", run_name="__main__")
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


def test_eight_megapixels_stay_below_a_memory_bound(tmp_path):
    """CRF and files of an image of 8 megapixels with 15 classes; its label has its own size."""
    path, _ = saved(tmp_path, test_crf="sec-test")
    cv2.imwrite(str(tmp_path / "large.jpg"), photo(2448, 3264))
    command = [sys.executable, "-c", MEASURE, path, "--image", tmp_path / "large.jpg"]
    command += ["--longest", "0", "--crf", "--save", "label", "--out", tmp_path / "out"]
    done = subprocess.run(
        [*map(str, command), "--device", "cpu", "--quiet"],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_mask(output_path(tmp_path / "out", "label", "large")).shape == (2448, 3264)
    assert int(done.stdout.split()[-1]) < 2500, "MiB"


def test_labels_of_shrunk_images_are_those_of_the_image(tmp_path):
    _, stage = saved(tmp_path, classes=CLASSES[:4])
    cv2.imwrite(str(tmp_path / "a.png"), photo(300, 200)[..., ::-1])
    scores = []
    for name, pixels in (("whole", 10**6), ("small", 15_000)):
        predict = predict_one(stage, tmp_path / name, tmp_path / "a.png", work_pixels=pixels)
        score = read_score(output_path(predict.out, "score", "a"))
        assert label_of(predict).shape == score.size == (300, 200)
        scores.append(upsample(score.score, score.size) / 255)
    assert np.abs(scores[0] - scores[1]).max() < 0.03 < np.ptp(scores[0], axis=(1, 2)).max()


def test_images_are_counted_when_their_files_are_there(tmp_path, monkeypatch):
    """Not only once a queue is full, which holds more images than many folders."""
    _, stage = saved(tmp_path, classes=CLASSES[:4])
    (tmp_path / "photos").mkdir()
    for number in range(6):
        cv2.imwrite(str(tmp_path / f"photos/{number}.png"), photo(20, 30))
    predict = Predict(tmp_path / "out", image=(tmp_path / "photos",), quiet=True, batch=1)
    bars, counts, network = [], [], infer.run_network

    def patient(*arguments):
        counts.append(bars[0].n)
        for number in range(len(counts) - 1):  # the files of those before
            path = output_path(predict.out, "label", str(number))
            while not path.is_file():
                time.sleep(0.01)
        time.sleep(0.05)
        return network(*arguments)

    class Bar(tqdm):
        def __init__(self, *_):
            super().__init__(file=io.StringIO())
            bars.append(self)

    monkeypatch.setattr(infer, "progress", Bar)
    monkeypatch.setattr(infer, "run_network", patient)
    assert infer.predict_split(stage, predict, torch.device("cpu"), 1) == []
    assert counts[0] == 0 and counts[-1] >= 3 and bars[0].n == 6


# -- presence ---------------------------------------------------------------------------------


def test_presence_replaces_the_recipe_s(tmp_path):
    import test as program

    path, _ = saved(tmp_path, "rsepm", classes=CLASSES[:4])
    cv2.imwrite(str(tmp_path / "a.png"), photo(40, 50))
    predict = Predict(tmp_path / "out", image=(tmp_path / "a.png",), quiet=True)
    for presence, shown in ((0.0, True), (1.1, False)):
        stage = program.open_stage(PredictFlags(path, replace(predict, presence=presence)))
        assert stage.presence == presence
        stage.network.eval()
        with torch.inference_mode():
            score = stage.predict([torch.rand(1, 3, 32, 32) * 255], None, False)
        assert bool(score[:, 1:].any()) is shown
    (tmp_path / "sec").mkdir()
    other, _ = saved(tmp_path / "sec")
    with pytest.raises(UserError, match="leave --presence out"):
        program.open_stage(PredictFlags(other, replace(predict, presence=0.5)))


# -- progress ---------------------------------------------------------------------------------


def test_progress_in_a_log_is_a_line_now_and_then(capsys):
    with progress(100, "predict", " images") as bar:
        bar.mininterval = bar.miniters = 0  # as if 30 seconds had passed each time
        for _ in range(3):
            bar.update()
            bar.refresh()
    log = capsys.readouterr().err
    lines = [line for line in log.replace("\r", "").splitlines() if line.strip()]
    assert lines and all(line.strip().startswith("predict: ") for line in lines)
    assert any("3 of 100 images [" in line for line in lines)
    assert "\x1b" not in log and "█" not in log


def test_progress_waits_30_seconds_between_lines(capsys):
    with progress(1000, "sec", " steps") as bar:
        assert bar.mininterval == 30
        for _ in range(1000):
            bar.update()
    assert len([line for line in capsys.readouterr().err.splitlines() if line.strip()]) <= 3


def test_quiet_progress_says_nothing(capsys):
    with progress(3, "sec", " steps", quiet=True) as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""


# -- overlays and large pictures ----------------------------------------------------------------


def test_a_mask_of_the_image_s_size_stands_beside_a_shrunk_image(tmp_path):
    """Panels of an overlay are as large as the image that was worked on."""
    root = layout(tmp_path / "own", CLASSES[:4], val=["a"])
    cv2.imwrite(str(root / "JPEGImages/a.jpg"), photo(600, 800))
    mask = np.zeros((600, 800), np.uint8)
    mask[:, 400:] = 1
    write_mask(root / "SegmentationClass/a.png", mask)
    _, stage = saved(tmp_path, classes=CLASSES[:4])
    stage.spec = resolve(str(root))
    predict = Predict(tmp_path / "out", save=("overlay", "label"), quiet=True, work_pixels=30_000)
    assert predict_split(stage, predict, torch.device("cpu"), 1) == []
    overlay = read_image(output_path(predict.out, "overlay", "a"))
    assert read_mask(output_path(predict.out, "label", "a")).shape == (600, 800)
    height, width = 2 * 150, 2 * 200  # enlarged for the legend
    assert overlay.shape[0] == height and overlay.shape[1] > 3 * width + 20
    gap = max(2, width // 100)
    truth = overlay[:, 2 * (width + gap) : 2 * (width + gap) + width].astype(int)
    image = overlay[:, :width].astype(int)
    assert np.abs(truth - image)[:, : width // 2 - 8].mean() < 4  # background shows the photo
    assert np.abs(truth - image)[:, width // 2 + 8 :].mean() > 20


def test_scores_of_very_large_pictures_are_read_again(tmp_path):
    score = np.full((1, 4, 5), 0.5, np.float32)
    write_score(tmp_path / "large.npz", score, [1], (20_000, 15_000))  # 300 megapixels: a TIFF
    assert read_score(tmp_path / "large.npz").size == (20_000, 15_000)
    write_score(tmp_path / "huge.npz", score, [1], (1 << 20, 1 << 15))  # no such image is read
    with pytest.raises(UserError, match="is not a score file"):
        read_score(tmp_path / "huge.npz")


@pytest.mark.parametrize("name", ["segmenter", "resegment"])
def test_locate_then_segment_has_a_crf(tmp_path, name):
    """Its probabilities are others after the CRF, and no error comes of it."""
    _, stage = saved(tmp_path, name, classes=CLASSES[:4], presence=0.0)
    assert stage.recipe.prediction.test_crf
    cv2.imwrite(str(tmp_path / "a.png"), photo(90, 120))
    scores = []
    for crf in (False, True):
        predict = predict_one(stage, tmp_path / str(crf), tmp_path / "a.png", crf=crf)
        scores.append(read_score(output_path(predict.out, "score", "a")))
        assert label_of(predict).shape == (90, 120)
    plain, refined = (upsample(s.score, s.size)[0] for s in scores)
    assert np.abs(plain - refined).max() > 1


# -- threads ----------------------------------------------------------------------------------

AT_TORCH = """
import os, sys

class Finder:
    def find_spec(self, name, *_):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"), os.environ.get("OPENBLAS_NUM_THREADS"))
            sys.exit()

sys.meta_path.insert(0, Finder())
sys.argv = ["test.py", "last.pt"]
import test
test.main()
"""


@pytest.mark.parametrize("given, used", [(None, "passive 1"), ("active", "active 1")])
def test_threads_of_the_network_sleep_between_layers(given, used):
    """OpenMP reads its policy once, when torch is loaded; a user's own choice stays."""
    ours = ("OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS")
    environment = {k: v for k, v in os.environ.items() if k not in ours}
    if given:
        environment["OMP_WAIT_POLICY"] = given
    command = [sys.executable, "-c", AT_TORCH]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.stdout.strip() == used, done.stderr
