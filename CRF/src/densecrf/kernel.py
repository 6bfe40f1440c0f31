"""Pairwise kernels and the named settings of the literature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real

import numpy as np

NORMALIZATIONS = ("none", "before", "after", "symmetric")
PRECISIONS = ("float16", "float32")


def _widths(name: str, value: float | Sequence[float], count: int) -> tuple[float, ...]:
    values = (value,) * count if isinstance(value, Real) else tuple(value)
    if len(values) != count or not all(isinstance(v, Real) for v in values):
        raise ValueError(f"{name} must be one number or {count} numbers, not {value!r}")
    values = tuple(float(v) for v in values)
    if not all(math.isfinite(v) and v > 0 for v in values):
        raise ValueError(f"{name} must be positive and finite, not {value!r}")
    return values


def _compat(value: float | np.ndarray) -> np.ndarray:
    try:
        array = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise TypeError(f"compat must be a number, vector or matrix, not {value!r}") from error
    if array.ndim > 2:
        raise ValueError(f"compat must be a number, vector or matrix, not of shape {array.shape}")
    if not np.isfinite(array).all() or (np.abs(array) > 1e30).any():
        raise ValueError("compat must be finite and at most 1e30 in size")
    return np.array(array, order="C")


def _normalization(value: str) -> int:
    if value not in NORMALIZATIONS:
        raise ValueError(f"normalization must be one of {NORMALIZATIONS}, not {value!r}")
    return NORMALIZATIONS.index(value)


def _half(precision: str) -> bool:
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, not {precision!r}")
    return precision == "float16"


@dataclass(frozen=True)
class Gaussian:
    """Smoothness kernel exp(-|dx|^2 / 2 sxy^2): neighbours want the same label.

    Args:
        sxy: standard deviation in pixels, one number or (x, y).
        compat: Potts weight (a number), or the label compatibility mu as a diagonal (C,) or a
            matrix (C, C) whose entries are energies: Potts weight w is mu = -w * identity.
        normalization: "symmetric" (the usual), "before", "after" or "none".

    Raises:
        ValueError: for a width that is not positive and finite, or an unknown normalization.
    """

    sxy: float | tuple[float, float]
    compat: float | np.ndarray = 3.0
    normalization: str = "symmetric"

    def __post_init__(self) -> None:
        self.encode()

    def encode(self) -> tuple:
        widths = _widths("sxy", self.sxy, 2)
        return (widths, None, _compat(self.compat), _normalization(self.normalization))


@dataclass(frozen=True)
class Bilateral:
    """Appearance kernel exp(-|dx|^2 / 2 sxy^2 - |dI|^2 / 2 srgb^2): alike pixels want one label.

    Args:
        sxy: standard deviation in pixels, one number or (x, y).
        srgb: standard deviation in colour steps of 0..255, one number or (r, g, b).
        compat: as in `Gaussian`.
        normalization: as in `Gaussian`.

    Raises:
        ValueError: for a width that is not positive and finite, or an unknown normalization.
    """

    sxy: float | tuple[float, float]
    srgb: float | tuple[float, float, float]
    compat: float | np.ndarray = 10.0
    normalization: str = "symmetric"

    def __post_init__(self) -> None:
        self.encode()

    def encode(self) -> tuple:
        widths = _widths("sxy", self.sxy, 2) + _widths("srgb", self.srgb, 3)
        return (widths, None, _compat(self.compat), _normalization(self.normalization))


@dataclass(frozen=True)
class Features:
    """Gaussian kernel over features of your own, for images that are not RGB, depth, flow, ...

    Args:
        feature: (N, D, H, W) or (D, H, W) numbers, each already divided by its standard deviation.
        compat: as in `Gaussian`.
        normalization: as in `Gaussian`.
    """

    feature: np.ndarray = field(repr=False)
    compat: float | np.ndarray = 10.0
    normalization: str = "symmetric"

    def __post_init__(self) -> None:
        _compat(self.compat)
        _normalization(self.normalization)


@dataclass(frozen=True)
class Preset:
    """Kernels and number of mean-field steps that belong together."""

    kernels: tuple[Gaussian | Bilateral, ...]
    steps: int


PRESETS: dict[str, Preset] = {
    # kolesman/SEC, CRF/krahenbuhl2013/CRF.py at scale factor 12 and 1.
    "sec-train": Preset((Gaussian(3 / 12, 3.0), Bilateral(80 / 12, 13.0, 10.0)), 10),
    "sec-test": Preset((Gaussian(3.0, 3.0), Bilateral(80.0, 13.0, 10.0)), 10),
    # ascust/SEC-MXNet, cores/config.py (test).
    "sec-mxnet": Preset((Gaussian(3.0, 3.0), Bilateral(80.0, 10.0, 10.0)), 10),
    # DeepLab v2 as in kazuto1011/deeplab-pytorch.
    "deeplab": Preset((Gaussian(1.0, 3.0), Bilateral(67.0, 3.0, 4.0)), 10),
    # jiwoon-ahn/psa, tool/imutils.py (also SEAM).
    "psa": Preset((Gaussian(3.0, 3.0), Bilateral(80.0, 13.0, 10.0)), 10),
    # jiwoon-ahn/irn, misc/imutils.py (on unary_from_labels with gt_prob 0.7).
    "irn": Preset((Gaussian(3.0, 3.0), Bilateral(50.0, 5.0, 10.0)), 10),
}


def preset(name: str, scale: float = 1.0) -> Preset:
    """Settings by name, with all xy widths divided by `scale`.

    Args:
        name: one of `PRESETS`.
        scale: size of the image the settings were made for over that of yours (SEC: 12).

    Raises:
        ValueError: for an unknown name or a scale that is not positive.
    """
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}; there are {', '.join(sorted(PRESETS))}")
    if not (isinstance(scale, Real) and math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be a positive number, not {scale!r}")
    found = PRESETS[name]
    if scale == 1:
        return found
    kernels = tuple(
        Gaussian(k.sxy / scale, k.compat)
        if isinstance(k, Gaussian)
        else Bilateral(k.sxy / scale, k.srgb, k.compat)
        for k in found.kernels
    )
    return Preset(kernels, found.steps)


def resolve(kernels, steps: int | None) -> tuple[tuple, int]:
    """The kernels and steps that arguments of `mean_field` stand for."""
    if isinstance(kernels, str):
        kernels = preset(kernels)
    if isinstance(kernels, Preset):
        steps = kernels.steps if steps is None else steps
        kernels = kernels.kernels
    if isinstance(kernels, (Gaussian, Bilateral, Features)):
        kernels = (kernels,)
    try:
        kernels = tuple(kernels)
    except TypeError as error:
        raise TypeError(f"kernels must be a preset's name or kernels, not {kernels!r}") from error
    for kernel in kernels:
        if not isinstance(kernel, (Gaussian, Bilateral, Features)):
            raise TypeError(f"a kernel must be Gaussian, Bilateral or Features, not {kernel!r}")
    steps = 10 if steps is None else steps
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)):
        raise TypeError(f"steps must be an integer, not {steps!r}")
    if not 0 <= steps < 2**31:
        raise ValueError(f"steps must be 0 or more, not {steps}")
    return kernels, int(steps)
