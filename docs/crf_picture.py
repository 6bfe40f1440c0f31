"""Draws docs/crf_picture.png: a picture, coarse scores of it, and the marginals of the CRF.

python docs/crf_picture.py     (needs opencv-python-headless)
"""

from pathlib import Path

import cv2
import numpy as np

import densecrf

HEIGHT, WIDTH, STRIDE = 240, 320, 16
COLOURS = np.uint8([[40, 60, 90], [200, 80, 60], [240, 190, 70], [70, 160, 110]])

rng = np.random.default_rng(1)
truth = np.zeros((HEIGHT, WIDTH), np.uint8)
cv2.ellipse(truth, (95, 120), (60, 85), 20, 0, 360, 1, -1)
star = np.array(
    [
        [225 + r * np.sin(a), 95 - r * np.cos(a)]
        for r, a in zip([70, 30] * 5, np.arange(10) * np.pi / 5)
    ]
)
cv2.fillPoly(truth, [star.astype(np.int32)], 2)
cv2.rectangle(truth, (190, 175), (300, 225), 3, -1)

light = np.linspace(0.75, 1.15, WIDTH)[None, :, None]
image = COLOURS[truth] * light + rng.normal(0, 12, (HEIGHT, WIDTH, 3))
image = np.clip(image, 0, 255).astype(np.uint8)

# Scores as a network of stride 16 gives them: right on the whole, coarse and unsure at borders.
one_hot = np.eye(len(COLOURS), dtype=np.float32)[truth]
coarse = cv2.resize(one_hot, (WIDTH // STRIDE, HEIGHT // STRIDE), interpolation=cv2.INTER_AREA)
coarse = coarse * 2.5 + rng.normal(0, 0.35, coarse.shape).astype(np.float32)
score = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).transpose(2, 0, 1)
energy = np.log(np.exp(score).sum(0)) - score

marginal = densecrf.mean_field(energy, image, "sec-test")
before, after = energy.argmin(0), marginal.argmax(0)
right = [(label == truth).mean() for label in (before, after)]
print(f"pixels right before {right[0]:.3f}, after {right[1]:.3f}")
panels = [image, COLOURS[before], COLOURS[after]]
gap = np.full((HEIGHT, 6, 3), 255, np.uint8)
row = np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)
cv2.imwrite(str(Path(__file__).with_name("crf_picture.png")), row[:, :, ::-1])
