"""`DenseCRF` and `DenseCRF2D` as pydensecrf has them.

Kept: sizes are (W, H) in the constructor but images (H, W, 3); arrays must be C-contiguous and of
the exact type, or ValueError is raised; `stepInference` changes Q in place. Differs: results are
ndarrays, C- instead of Fortran-ordered; read-only arrays are taken; sizes that crashed raise.
"""

from __future__ import annotations

import enum
from numbers import Number

import numpy as np

from .. import _core
from ..batch import _threads
from ..kernel import _half
from . import utils


class KernelType(enum.IntEnum):
    """Shape of a kernel's parameters. They only matter for learning, which is not offered: with
    the initial parameters, which inference uses, all three give the same kernel."""

    CONST_KERNEL = 0
    DIAG_KERNEL = 1
    FULL_KERNEL = 2


class NormalizationType(enum.IntEnum):
    """Where a kernel's messages are divided by its row sums."""

    NO_NORMALIZATION = 0
    NORMALIZE_BEFORE = 1
    NORMALIZE_AFTER = 2
    NORMALIZE_SYMMETRIC = 3


CONST_KERNEL, DIAG_KERNEL, FULL_KERNEL = KernelType
NO_NORMALIZATION, NORMALIZE_BEFORE, NORMALIZE_AFTER, NORMALIZE_SYMMETRIC = NormalizationType


def _exact(name: str, value, dtype: str, ndim: int) -> np.ndarray:
    array = np.asarray(value)
    if array.ndim != ndim:
        raise ValueError(
            f"{name} has the wrong number of dimensions (expected {ndim}, got {array.ndim})"
        )
    if array.dtype != np.dtype(dtype):
        raise ValueError(f"{name} must be {np.dtype(dtype)}, got {array.dtype}; use .astype")
    if not array.flags.c_contiguous:
        raise ValueError(f"{name} is not C-contiguous; use np.ascontiguousarray")
    return array


def _compatibility(compat, labels: int) -> np.ndarray:
    if isinstance(compat, Number):
        return np.array(compat, dtype=np.float32)
    array = np.asarray(memoryview(compat))
    if array.ndim > 2:
        raise ValueError("LabelCompatibility of dimension >2 not meaningful.")
    array = _exact("compat", array, "float32", array.ndim)
    if any(n != labels for n in array.shape):
        raise ValueError(f"compat of shape {array.shape} does not fit {labels} labels")
    return array


class Unary:
    """Energies of a model."""

    def __init__(self, energy: np.ndarray) -> None:
        self.energy = energy


class ConstUnary(Unary):
    """Given energies, float32 (labels, variables)."""

    def __init__(self, u) -> None:
        super().__init__(_exact("u", u, "float32", 2))


class LogisticUnary(Unary):
    """Energies L f from features: L (labels, D), f (D, variables), float32."""

    def __init__(self, L, f) -> None:
        L, f = _exact("L", L, "float32", 2), _exact("f", f, "float32", 2)
        if L.shape[1] != f.shape[0]:
            raise ValueError(f"L of shape {L.shape} and f of shape {f.shape} do not fit")
        super().__init__(np.ascontiguousarray(L @ f))


class DenseCRF:
    """A fully connected CRF over `nvar` variables of `nlabels` labels.

    `threads` is the number of processors to use, 0 for all; set it on the class or the instance.
    `precision` is "float16" or "float32", see `densecrf.mean_field`; set it on the class, as the
    constructor reads it.
    """

    threads = 0
    precision = "float16"

    def __init__(self, nvar: int, nlabels: int) -> None:
        nvar, nlabels = int(np.int64(nvar)), int(np.int64(nlabels))
        if nvar < 1 or nlabels < 1:
            raise ValueError(f"a CRF needs variables and labels, got {nvar} and {nlabels}")
        self._nvar, self._nlabels = nvar, nlabels
        self._model = _core.Model(*self._size(), nlabels, _half(self.precision))
        self._has_unary = False

    def _size(self) -> tuple[int, int]:
        """Height and width of the image, (1, variables) where there is none."""
        return 1, self._nvar

    def addPairwiseEnergy(
        self, features, compat, kernel=DIAG_KERNEL, normalization=NORMALIZE_SYMMETRIC
    ) -> None:
        """Adds a Gaussian kernel over `features`, float32 (D, variables), scaled to width 1.

        compat: Potts weight, or energies mu as (labels,) diagonal or (labels, labels) matrix.
        """
        features = _exact("features", features, "float32", 2)
        if features.shape[1] != self._nvar:
            raise ValueError(
                f"Bad shape for pairwise energy (Need (?, {self._nvar}), got {features.shape})"
            )
        KernelType(kernel)
        self._model.add(
            features,
            _compatibility(compat, self._nlabels),
            int(NormalizationType(normalization)),
            _threads(self.threads),
        )

    def setUnary(self, unary: Unary) -> None:
        """Sets the energies from a `ConstUnary` or `LogisticUnary`."""
        self._set(unary.energy)

    def setUnaryEnergy(self, u, f=None) -> None:
        """Sets the energies: `u` float32 (labels, variables); with `f`, the product u f."""
        self._set((ConstUnary(u) if f is None else LogisticUnary(u, f)).energy)

    def _set(self, energy: np.ndarray) -> None:
        if energy.shape != (self._nlabels, self._nvar):
            raise ValueError(
                f"Bad shape for unary energy (Need {(self._nlabels, self._nvar)}, "
                f"got {energy.shape})"
            )
        self._model.set_energy(energy, _threads(self.threads))
        self._has_unary = True

    def _ready(self) -> None:
        if not self._has_unary:
            self._set(np.zeros((self._nlabels, self._nvar), np.float32))

    def inference(self, niter: int) -> np.ndarray:
        """Marginals after `niter` steps, float32 (labels, variables)."""
        self._ready()
        return self._model.infer(max(int(niter), 0), _threads(self.threads))

    def startInference(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Marginals before the first step, and two arrays that `stepInference` ignores."""
        self._ready()
        start = self._model.infer(0, _threads(self.threads))
        return start, np.empty((0, 0), np.float32), np.empty((0, 0), np.float32)

    def stepInference(self, Q, tmp1=None, tmp2=None) -> None:
        """One step from Q, written to Q."""
        self._ready()
        Q[...] = self._model.step(self._marginal(Q), _threads(self.threads))

    def klDivergence(self, Q) -> float:
        """Divergence of Q from the model, up to the model's constant."""
        self._ready()
        return self._model.divergence(self._marginal(Q), _threads(self.threads))

    def _marginal(self, Q) -> np.ndarray:
        Q = np.ascontiguousarray(Q, dtype=np.float32)
        if Q.shape != (self._nlabels, self._nvar):
            raise ValueError(f"Q must be {(self._nlabels, self._nvar)}, got {Q.shape}")
        return Q


class DenseCRF2D(DenseCRF):
    """A fully connected CRF over the pixels of an image. The order is width, height, labels."""

    def __init__(self, w: int, h: int, nlabels: int) -> None:
        w, h = int(np.int64(w)), int(np.int64(h))
        if w < 1 or h < 1:
            raise ValueError(f"width and height must be at least 1, got {w} and {h}")
        self._w, self._h = w, h
        super().__init__(w * h, nlabels)

    def _size(self) -> tuple[int, int]:
        return self._h, self._w

    def addPairwiseGaussian(
        self, sxy, compat, kernel=DIAG_KERNEL, normalization=NORMALIZE_SYMMETRIC
    ) -> None:
        """Adds the smoothness kernel; sxy: one width in pixels or (x, y)."""
        sx, sy = (sxy, sxy) if isinstance(sxy, Number) else sxy
        _positive(sx, sy)
        features = utils.create_pairwise_gaussian((sy, sx), (self._h, self._w))
        # The lattice depends on the order of features: x first, as in the original.
        self.addPairwiseEnergy(
            np.ascontiguousarray(features[[1, 0]]), compat, kernel, normalization
        )

    def addPairwiseBilateral(
        self, sxy, srgb, rgbim, compat, kernel=DIAG_KERNEL, normalization=NORMALIZE_SYMMETRIC
    ) -> None:
        """Adds the appearance kernel of an image, uint8 (h, w, 3).

        sxy: one width in pixels or (x, y); srgb: one width in 0..255 or (r, g, b).
        """
        rgbim = _exact("rgbim", rgbim, "uint8", 3)
        if rgbim.shape[2] != 3:
            raise ValueError(
                "addPairwiseBilateral only works for RGB images. For other types, use "
                "`utils.create_pairwise_bilateral` and `addPairwiseEnergy`."
            )
        if rgbim.shape[:2] != (self._h, self._w):
            raise ValueError(
                f"Bad shape for pairwise bilateral (Need {(self._h, self._w, 3)}, "
                f"got {rgbim.shape})"
            )
        sx, sy = (sxy, sxy) if isinstance(sxy, Number) else sxy
        srgb = (srgb,) * 3 if isinstance(srgb, Number) else tuple(srgb)
        _positive(sx, sy, *srgb)
        features = utils.create_pairwise_bilateral((sy, sx), srgb, rgbim, 2)
        self.addPairwiseEnergy(
            np.ascontiguousarray(features[[1, 0, 2, 3, 4]]), compat, kernel, normalization
        )


def _positive(*widths: float) -> None:
    if not all(np.isfinite(w) and w > 0 for w in widths):
        raise ValueError(f"kernel widths must be positive and finite, got {widths}")
