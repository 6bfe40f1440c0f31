"""Draw what the dense CRF does: picture, argmax of coarse scores, argmax of the marginals.

python -m script.crf_figure [--out docs/crf.png]
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from PIL import Image

import densecrf
from base import entry
from datalist.archive import replacing

HEIGHT, WIDTH, STRIDE = 240, 320, 16
COLOURS = np.uint8([[40, 60, 90], [200, 80, 60], [240, 190, 70], [70, 160, 110]])


@dataclass(frozen=True)
class Flags:
    out: Path = Path("docs/crf.png")
    """Picture to write."""


def draw_truth() -> np.ndarray:
    """An ellipse, a star and a box on background, uint8 (HEIGHT, WIDTH)."""
    truth = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.ellipse(truth, (95, 120), (60, 85), 20, 0, 360, 1, -1)
    angle, radius = np.arange(10) * np.pi / 5, np.array([70, 30] * 5)
    star = np.stack((225 + radius * np.sin(angle), 95 - radius * np.cos(angle)), axis=1)
    cv2.fillPoly(truth, [star.astype(np.int32)], 2)
    cv2.rectangle(truth, (190, 175), (300, 225), 3, -1)
    return truth


def main(flags: Flags) -> None:
    rng = np.random.default_rng(1)
    truth = draw_truth()
    light = np.linspace(0.75, 1.15, WIDTH)[None, :, None]
    image = COLOURS[truth] * light + rng.normal(0, 12, (HEIGHT, WIDTH, 3))
    image = np.clip(image, 0, 255).astype(np.uint8)

    # Scores as of a network of stride 16: right in the large, coarse and unsure at borders.
    one_hot = np.eye(len(COLOURS), dtype=np.float32)[truth]
    coarse = cv2.resize(one_hot, (WIDTH // STRIDE, HEIGHT // STRIDE), interpolation=cv2.INTER_AREA)
    coarse = coarse * 2.5 + rng.normal(0, 0.35, coarse.shape).astype(np.float32)
    score = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).transpose(2, 0, 1)
    energy = np.log(np.exp(score).sum(0)) - score
    before = energy.argmin(0)
    after = densecrf.mean_field(energy, image, "sec-test").argmax(0)

    print(
        f"right pixels: {(before == truth).mean():.3f} before, {(after == truth).mean():.3f} after"
    )
    gap = np.full((HEIGHT, 6, 3), 255, np.uint8)
    row = np.concatenate([image, gap, COLOURS[before], gap, COLOURS[after]], axis=1)
    with replacing(flags.out) as draft:
        Image.fromarray(row).save(draft, "PNG", optimize=True)
    print(flags.out)


if __name__ == "__main__":
    with entry("script.crf_figure"):
        main(tyro.cli(Flags, description=__doc__))
