"""Time, agreement and refined mIoU of several dense CRFs from the same scores, in one table.

    pip install ./CRF pydensecrf2 SimpleCRF torch opencv-python-headless
    python -m benchmark.crf_rivals --data FOLDER [--count 40] [--scores FOLDER_OF_NPZ]

FOLDER has JPEGImages, SegmentationClass and ImageSets/Segmentation/val.txt, as VOC2012. Scores are
read from FOLDER_OF_NPZ/NAME.npz (array `score`, probabilities (C, h, w) of any size, enlarged
bilinearly). Without --scores they are made from the masks: one-hot labels averaged over 16 x 16
pixels, plus smooth noise of a fixed seed. Borders are blurred and some regions are wrong, as in the
scores of a coarse network. Such scores compare the CRFs with one another; their mIoU says nothing
about a network.

Systems, each skipped with a sentence where it cannot be imported: this package (one and two
threads), pydensecrf2, SimpleCRF, and mean field with exact Gaussian kernels in a window of 11 x 11
pixels, written in torch from the formula of ConvCRF (Teichmann and Cipolla 2018). All take the
parameters of the preset `sec-test`, but the window ends 5 pixels away. `agreement` is the share of
pixels with the same label as pydensecrf2 gives (this package where pydensecrf2 is missing).
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import densecrf
from benchmark.crf import processor, rival

STRIDE = 16


def made_scores(mask: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Probabilities (C, H, W) from a mask (H, W); 255 is spread evenly."""
    rng = np.random.default_rng(seed)
    height, width = mask.shape
    one_hot = np.eye(classes, dtype=np.float32)[np.where(mask < classes, mask, 0)]
    one_hot[mask >= classes] = 1 / classes
    size = (max(1, width // STRIDE), max(1, height // STRIDE))
    planes = []
    for plane in one_hot.transpose(2, 0, 1):
        coarse = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
        coarse = 4 * coarse + rng.normal(0, 1.2, coarse.shape).astype(np.float32)
        planes.append(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR))
    power = np.exp(np.stack(planes))
    return power / power.sum(0)


def read_scores(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Probabilities (C, H, W) of a file, enlarged to size (H, W)."""
    if not path.exists():
        sys.exit(f"{path} does not exist; write one .npz with the array `score` for each image")
    with np.load(path) as file:
        if "score" not in file:
            sys.exit(f"{path} has no array `score` of shape (classes, height, width)")
        score = file["score"].astype(np.float32)
    return np.stack([cv2.resize(plane, size[::-1]) for plane in score])


def local_window(energy: np.ndarray, image: np.ndarray, radius: int = 5) -> np.ndarray:
    """Mean field whose kernels are exact within a window and 0 outside.

    energy (C, H, W), image (H, W, 3) uint8 -> marginals (C, H, W). Each kernel's values are divided
    by their sum over the window, pixel by pixel, as in ConvCRF; a pixel gives itself no message.
    """
    import torch
    from torch.nn.functional import pad, unfold

    with torch.no_grad():
        logit = -torch.from_numpy(energy)[None]
        colour = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))[None]
        count, (height, width) = 2 * radius + 1, logit.shape[2:]

        def windows(value: torch.Tensor) -> torch.Tensor:
            channels = value.shape[1]
            return unfold(value, count, padding=radius).view(channels, count**2, height, width)

        offset = torch.arange(-radius, radius + 1.0)
        distance = (offset[:, None] ** 2 + offset**2).reshape(-1, 1, 1)
        inside = windows(torch.ones(1, 1, height, width))[0]
        inside[count**2 // 2] = 0
        difference = ((windows(colour) - colour[0][:, None]) ** 2).sum(0)
        gaussian = torch.exp(-distance / (2 * 3**2)) * inside
        bilateral = torch.exp(-distance / (2 * 80**2) - difference / (2 * 13**2)) * inside
        kernel = 3 * gaussian / gaussian.sum(0).clamp(min=1e-20)
        kernel = kernel + 10 * bilateral / bilateral.sum(0).clamp(min=1e-20)
        marginal = logit.softmax(1)
        for _ in range(10):
            # One offset after the other: the windows of all classes would take gigabytes.
            around = pad(marginal, (radius,) * 4)
            message = torch.zeros_like(marginal)
            for k, weight in enumerate(kernel):
                y, x = divmod(k, count)
                message += weight * around[:, :, y : y + height, x : x + width]
            marginal = (logit + message).softmax(1)
        return marginal[0].numpy()


def systems() -> dict[str, Callable]:
    """Functions (energy (C, H, W), image) -> labels (H, W) of what can be imported."""
    found: dict[str, Callable] = {
        f"densecrf, {n} thread{'s' * (n > 1)}": lambda u, i, n=n: densecrf.mean_field(
            u, i, "sec-test", threads=n
        ).argmax(0)
        for n in (1, 2)
    }
    try:
        import pydensecrf.densecrf  # noqa: F401

        found["pydensecrf2"] = lambda u, i: rival(u, i).argmax(0)
    except ImportError as error:
        print(f"pydensecrf2 is left out: {error}")
    try:
        import denseCRF

        # Weight, spatial width and colour width of the bilateral kernel, weight and width of the
        # Gaussian one, steps. It takes probabilities and returns labels.
        parameters = (10.0, 80.0, 13.0, 3.0, 3.0, 10.0)
        found["SimpleCRF"] = lambda u, i: denseCRF.densecrf(
            i, np.ascontiguousarray(np.exp(-u).transpose(1, 2, 0)), parameters
        )
    except ImportError as error:
        print(f"SimpleCRF is left out: {error}")
    try:
        import torch  # noqa: F401

        found["window 11 x 11 in torch"] = lambda u, i: local_window(u, i).argmax(0)
    except ImportError as error:
        print(f"the window in torch is left out: {error}")
    return found


def confusion(label: np.ndarray, mask: np.ndarray, classes: int) -> np.ndarray:
    known = mask < classes
    pairs = mask[known].astype(np.int64) * classes + label[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def mean_iou(matrix: np.ndarray) -> float:
    """Mean intersection over union, in percent, of the classes that occur."""
    union = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    return float(100 * (matrix.diagonal()[union > 0] / union[union > 0]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder in VOC2012's layout")
    parser.add_argument("--scores", type=Path, help="folder of NAME.npz with `score`")
    parser.add_argument("--count", type=int, default=0, help="images of val; 0: all")
    parser.add_argument("--json", type=Path, help="file to write the table to")
    options = parser.parse_args()
    names = (options.data / "ImageSets/Segmentation/val.txt").read_text().split()
    names = (
        names[:: max(1, len(names) // options.count)][: options.count] if options.count else names
    )
    masks = [np.array(Image.open(options.data / f"SegmentationClass/{n}.png")) for n in names]
    made = max(int(mask[mask < 255].max(initial=0)) for mask in masks) + 1
    calls = systems()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    same = dict.fromkeys(calls, 0)
    matrices: dict[str, np.ndarray | int] = dict.fromkeys(["scores alone", *calls], 0)
    first = "pydensecrf2" if "pydensecrf2" in calls else next(iter(calls))
    for seed, (name, mask) in enumerate(zip(names, masks)):
        image = np.array(Image.open(options.data / f"JPEGImages/{name}.jpg").convert("RGB"))
        if options.scores:
            score = read_scores(options.scores / f"{name}.npz", mask.shape)
        else:
            score = made_scores(mask, made, seed)
        classes = len(score)
        energy = np.ascontiguousarray(-np.log(np.maximum(score, 1e-5)), np.float32)
        labels = {}
        for system, call in calls.items():
            start = time.perf_counter()
            labels[system] = call(energy, image)
            seconds[system].append(time.perf_counter() - start)
        for system, label in labels.items():
            same[system] += int((label == labels[first]).sum())
            matrices[system] = matrices[system] + confusion(label, mask, classes)
        matrices["scores alone"] = matrices["scores alone"] + confusion(
            score.argmax(0), mask, classes
        )
    pixels = sum(mask.size for mask in masks)
    print(f"processor: {processor()}; {len(names)} images, {classes} classes, 10 steps")
    print(f"{'':26}{'ms an image':>12}{'agreement':>12}{'mIoU':>8}")
    print(f"{'scores alone':26}{'':>12}{'':>12}{mean_iou(matrices['scores alone']):8.2f}")
    table = {"scores alone": {"miou": mean_iou(matrices["scores alone"])}}
    for system in calls:
        table[system] = {
            "ms": statistics.median(seconds[system]) * 1e3,
            "agreement": same[system] / pixels,
            "miou": mean_iou(matrices[system]),
        }
        row = table[system]
        print(f"{system:26}{row['ms']:12.1f}{row['agreement']:12.5f}{row['miou']:8.2f}")
    if options.json:
        partial = options.json.with_name(options.json.name + ".part")
        partial.write_text(json.dumps(table, indent=1) + "\n")
        partial.replace(options.json)


if __name__ == "__main__":
    main()
