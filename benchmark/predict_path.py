"""Time everything after the network: enlarging scores, CRF, argmax and PNG, for 500 x 375 pixels.

    python -m benchmark.predict_path [--images FOLDER_OF_PHOTOGRAPHS] [--json FILE]

Beside it the released path: scipy's zoom of the scores and the original dense CRF, one image after
another. That CRF is timed through the package pydensecrf2, if it is installed (pip install
pydensecrf2). From the same enlarged scores both must give almost every pixel the same label; the
paths differ a little more, as scipy's zoom puts corner on corner and OpenCV edge on edge.
"""

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from PIL import Image
from scipy.ndimage import zoom

import densecrf
from benchmark.crf import SIZE, photographs
from benchmark.timing import median, report
from datalist.image import write_mask
from datalist.palette import palette
from refine import refine_scores
from utils.maps import most_probable
from utils.output import upsample


@dataclass(frozen=True)
class Flags:
    images: str | None = None
    """Folder of photographs; without, smooth random pictures stand for them."""
    count: int = 8
    """Images of one pass."""
    classes: int = 21
    """Classes with background."""
    threads: int = 2
    """Threads of our path; the released one has one."""
    times: int = 5
    """Passes to take the median of."""
    json: Path | None = None
    """File for the numbers."""


def draw(seed: int, classes: int) -> np.ndarray:
    """Smooth scores of a network, float32 (classes, 41, 41)."""
    rng = np.random.default_rng(seed)
    logit = cv2.resize(rng.normal(0, 3, (6, 6, classes)), (41, 41), interpolation=cv2.INTER_CUBIC)
    power = np.exp(logit.transpose(2, 0, 1))
    return (power / power.sum(0)).astype(np.float32)


def enlarged(score: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scores (C, H, W) by scipy's zoom, which puts corner on corner."""
    factor = (size[0] / score.shape[1], size[1] / score.shape[2], 1)
    return zoom(score.transpose(1, 2, 0), factor, order=1).transpose(2, 0, 1)


def ours(image: np.ndarray, score: np.ndarray, path: Path) -> np.ndarray:
    score = refine_scores(upsample(score, image.shape[:2]), image, densecrf.preset("sec-test"))
    label = most_probable(score, np.arange(len(score)))
    write_mask(path, label)
    return label


def released(image: np.ndarray, score: np.ndarray, path: Path) -> np.ndarray:
    """deploy/demo.py in a few lines: zoom, clip, log, CRF, argmax; then a palette PNG."""
    from pydensecrf import densecrf as original

    height, width = image.shape[:2]
    score = np.maximum(enlarged(score, (height, width)), 1e-5)
    crf = original.DenseCRF2D(width, height, len(score))
    energy = -np.log(score).reshape(len(score), -1)
    crf.setUnaryEnergy(np.ascontiguousarray(energy, np.float32))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=np.ascontiguousarray(image), compat=10)
    label = np.array(crf.inference(10)).argmax(0).reshape(height, width).astype(np.uint8)
    png = Image.fromarray(label)
    png.putpalette(palette(256).tobytes())
    png.save(path)
    return label


def main(flags: Flags) -> None:
    images = photographs(flags.images, flags.count, np.random.default_rng(0), SIZE)
    images = [np.ascontiguousarray(image) for image in images]
    cases = [(image, draw(seed, flags.classes)) for seed, image in enumerate(images)]
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(flags.threads) as pool:
        paths = [Path(name) / f"{n}.png" for n in range(flags.count)]

        def run() -> list[np.ndarray]:
            return list(pool.map(lambda case, path: ours(*case, path), cases, paths))

        labels = run()
        seconds = median(run, flags.times) / flags.count
        numbers = {"threads": flags.threads, "seconds_an_image_ours": seconds}
        try:
            other = released(*cases[0], paths[0])
        except ImportError:
            print("pydensecrf2 is not installed: the released path is not timed")
        else:
            image, score = cases[0]
            same = enlarged(score, image.shape[:2])
            refined = refine_scores(same, image, densecrf.preset("sec-test")).argmax(0)
            agreement = float((refined == other).mean())
            if agreement < 0.98:
                sys.exit(f"The two CRFs agree on {100 * agreement:.1f} % of the pixels only.")
            theirs = median(lambda: released(*cases[0], paths[0]), max(1, flags.times // 2))
            numbers |= {
                "seconds_an_image_released": theirs,
                "ratio": theirs / seconds,
                "agreement_from_the_same_scores": agreement,
                "agreement_of_the_paths": float((labels[0] == other).mean()),
            }
    report(numbers, flags.json)


if __name__ == "__main__":
    main(tyro.cli(Flags, description=__doc__))
