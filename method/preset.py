"""Values that the recipes of several methods share: published ones, `small` and `photo`."""

from dataclasses import replace
from typing import Any, TypeVar

from base.recipe import Data, Prediction, Solver, change
from method.backbone import VGG16, ResNet, ResNet38d, Timm
from method.head import DecoderHead, Head, LargeFOVHead, PyramidHead

R = TypeVar("R")

# -- published ---------------------------------------------------------------------------------

SEC_TEST = Prediction(test_crf="sec-test")
"""SEC's krahenbuhl2013 wrapper and deploy/demo.py."""
DSRG_TEST = replace(SEC_TEST, test_scales=(0.75, 1.0, 1.25))
"""test-ms.py (241, 321 and 401 pixels) and test-ms-f.py of the released DSRG code."""
MXNET_DATA = Data(size=(320, 320), mirror=True)
MXNET_TEST = Prediction(test_mirror=True, test_crf="sec-mxnet")
"""ascust/SEC-MXNet (cores/config.py)."""
RESNET50_AT_8 = ResNet(stride=(2, 2, 2, 1, 1), dilation=(1, 1, 2, 4), norm=False)
"""ResNet-50 at stride 8 with frozen statistics (symbols of SEC-MXNet)."""
RESNET101_AT_8 = replace(RESNET50_AT_8, blocks=(3, 4, 23, 3))
"""DeepLab-v2's. The paper of DSRG reports it; its files were not released."""
IRN_RESNET50 = ResNet(norm=False)
"""IRN's trunk, stride 16."""
DHR_SOLVER = Solver(
    steps=None, epochs=100, batch=16, lr=1e-3, bias_factor=1.0, weight_decay=4e-5, decay_all=True,
    policy="poly",
)  # fmt: skip
"""Solver of the next paper of RecurSeed's authors (shjo-april/DHR) [inferred for RecurSeed]."""
RECURSEED_TEST = Prediction((1.0, 0.5, 1.5, 2.0), True, "deeplab")
"""Scales, mirror and CRF of the released RecurSeed inference."""

# -- small (ours): narrow networks from scratch, minutes on a laptop ----------------------------

SMALL_DATA = Data(size=(80, 80), mirror=True)
SMALL_SOLVER = Solver(
    steps=400, batch=16, optimizer="adamw", lr=2e-3, head_factor=1.0, bias_factor=1.0,
    weight_decay=1e-2, policy="poly", warmup=20,
)  # fmt: skip
SMALL_VGG16 = VGG16(
    "none", width=(24, 48, 64, 96, 96), depth=(1, 1, 1, 1, 1), pool=(2, 2, 1, 1, 1), norm=True
)
SMALL_ON_VGG16 = (SMALL_DATA, SMALL_SOLVER, SMALL_VGG16)
"""Groups of a recipe: data, solver and backbone."""
SMALL_RESNET = ResNet(
    "none", width=(24, 12, 16, 24, 32), blocks=(1, 1, 1, 1), stride=(2, 2, 1, 1, 1),
    dilation=(1, 1, 1, 2),
)  # fmt: skip
SMALL_RESNET_DILATED = replace(SMALL_RESNET, dilation=(1, 1, 2, 4))
SMALL_RESNET38D = ResNet38d(
    "none", width=(16, 24, 48, 64, 96, 96, 128), blocks=(1, 1, 1, 1), stride=(2, 2, 1), drop=0.1,
    norm=True,
)  # fmt: skip
SMALL_FOV = LargeFOVHead(hidden=128, rate=6, dropout=0.1)
SMALL_PYRAMID = PyramidHead(hidden=64, rates=(3, 6, 9, 12), dropout=0.1)
SMALL_DECODER = DecoderHead(low=24, hidden=48, rates=(2, 4, 6), dropout=0.1)
# The images are small: the widths of the CRFs shrink with them.
SMALL_SEC_TEST = replace(SEC_TEST, test_crf_scale=4.0)
SMALL_DSRG_TEST = replace(DSRG_TEST, test_crf_scale=4.0)
SMALL_DECODER_TEST = Prediction((0.75, 1.0, 1.25), True, "deeplab", 4.0)

# -- photo (ours): ImageNet weights from a pip package, for folders of photographs --------------

PHOTO: dict[str, Any] = {
    "data": Data(
        size=None, fit="window", window=(0.6, 1.0), jitter=(0.3, 0.3, 0.3, 0.0), mirror=True
    ),
    "solver": Solver(
        steps=None, epochs=8, batch=8, optimizer="adamw", lr=3e-4, bias_factor=1.0,
        weight_decay=1e-2, decay_all=True, max_norm=5.0, policy="poly", warmup=20,
    ),
    "backbone": Timm(),
    "head": DecoderHead(low=48, hidden=96, rates=(2, 4, 6), dropout=0.1, join=True),
    "prediction": Prediction(
        (1.0, 1.5), True, "deeplab", test_crf_scale=None, test_crf_least=0.01
    ),
}  # fmt: skip
"""Groups of every recipe `photo`."""
PHOTO_CLASSIFIER: dict[str, Any] = {
    "epochs": 5, "lr": 2e-2, "head_factor": 1.0, "dropout": 0.0, "join": True, "frozen": True,
    "decay": 0.998,
}  # fmt: skip
"""Fields of the classifiers. A trunk that learns the tags of a few hundred photographs remembers
the photographs, and its maps mark whatever comes along with a class: a linear classifier of
ImageNet features does not."""


def photo(recipe: R, **changes: Any) -> R:
    """The recipe of a method for photographs, made of another one, as `smoke` makes one.

    Args:
        recipe: its data, solver, backbone, prediction and segmentation head are replaced.
        changes: single fields or further groups, as of `base.recipe.change`.
    """
    groups = {name: group for name, group in PHOTO.items() if hasattr(recipe, name)}
    if not isinstance(getattr(recipe, "head", None), Head):
        groups.pop("head", None)
    return change(change(recipe, **groups), **changes)
