"""What the recipes of all methods share at one size: `small` (scenes) and `photo` (photographs)."""

from dataclasses import replace

from base.recipe import Data, Prediction, Solver
from method.backbone import Timm
from method.head import DecoderHead

SEC_TEST = Prediction(test_crf="sec-test")
"""SEC's krahenbuhl2013 wrapper and deploy/demo.py."""

# -- small (ours): narrow networks from scratch, minutes on a laptop ----------------------------

SMALL_DATA = Data(size=(80, 80), mirror=True)
SMALL_SOLVER = Solver(
    steps=400, batch=16, optimizer="adamw", lr=2e-3, head_factor=1.0, bias_factor=1.0,
    weight_decay=1e-2, policy="poly", warmup=20,
)  # fmt: skip

# -- photo (ours): ImageNet weights from a pip package, for folders of photographs --------------

PHOTO_DATA = Data(
    size=None, fit="window", window=(0.6, 1.0), jitter=(0.3, 0.3, 0.3, 0.0), mirror=True
)
PHOTO_SOLVER = Solver(
    steps=None, epochs=8, batch=8, optimizer="adamw", lr=3e-4, bias_factor=1.0, weight_decay=1e-2,
    decay_all=True, max_norm=5.0, policy="poly", warmup=20,
)  # fmt: skip
PHOTO_BACKBONE = Timm()
PHOTO_HEAD = DecoderHead(low=48, hidden=96, rates=(2, 4, 6), dropout=0.1, join=True)
PHOTO_TEST = Prediction((1.0, 1.5), True, "deeplab", test_crf_scale=None)
PHOTO_MAPS = replace(PHOTO_TEST, test_scales=(1.0, 1.5, 2.0), test_crf="sec-test")
"""Activation maps: one scale more, and a CRF of wider smoothing."""
