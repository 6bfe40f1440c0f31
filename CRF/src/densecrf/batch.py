"""The batched call."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from . import _core
from .kernel import Bilateral, Features, Gaussian, Preset, _compat, _half, _normalization, resolve


def _array(name: str, value) -> np.ndarray:
    """Any array or DLPack tensor in CPU memory as a numpy array, without a copy."""
    if isinstance(value, np.ndarray):
        return value
    if getattr(value, "requires_grad", False):
        raise TypeError(f"{name} requires grad, but the CRF has no gradient; pass {name}.detach()")
    if hasattr(value, "__dlpack__"):
        if value.__dlpack_device__()[0] != 1:
            raise TypeError(f"{name} is not in CPU memory; pass {name}.cpu() or use densecrf.torch")
        return np.from_dlpack(value)
    raise TypeError(f"{name} must be an array or a CPU tensor, not {type(value).__name__}")


def _unary(value) -> np.ndarray:
    unary = _array("unary", value)
    if unary.dtype.kind != "f":
        raise TypeError(f"unary must hold float energies (-log probability), not {unary.dtype}")
    if unary.ndim not in (3, 4):
        raise ValueError(f"unary must be (N, C, H, W) or (C, H, W), not of shape {unary.shape}")
    if 0 in unary.shape[-3:]:
        raise ValueError(f"unary has no label or no pixel: its shape is {unary.shape}")
    return np.ascontiguousarray(unary, dtype=np.float32)


def _image(value, unary: np.ndarray) -> np.ndarray:
    image = _array("image", value)
    if image.dtype != np.uint8:
        raise TypeError(f"image must be uint8 RGB in 0..255, not {image.dtype}")
    size = unary.shape[-2:]
    expected = (*unary.shape[:-3], *size, 3)
    if image.shape != expected:
        raise ValueError(
            f"image must be (..., height, width, 3) = {expected} to fit unary {unary.shape}, "
            f"not {image.shape}"
        )
    return np.ascontiguousarray(image)


def _encode(kernel, unary: np.ndarray) -> tuple:
    labels = unary.shape[1]
    compat = _compat(kernel.compat)
    if compat.ndim and any(n != labels for n in compat.shape):
        raise ValueError(f"compat of shape {compat.shape} does not fit {labels} labels")
    if not isinstance(kernel, Features):
        return kernel.encode()
    feature = _array("feature", kernel.feature)
    if feature.ndim == 3:
        feature = feature[None]
    wanted = (unary.shape[0], *unary.shape[-2:])
    if feature.ndim != 4 or (feature.shape[0], *feature.shape[2:]) != wanted:
        raise ValueError(f"feature of shape {feature.shape} does not fit unary {unary.shape}")
    if not 1 <= feature.shape[1] <= 255:
        raise ValueError(f"a kernel takes 1 to 255 features, not {feature.shape[1]}")
    if feature.dtype.kind not in "fiu":
        raise TypeError(f"feature must hold real numbers, not {feature.dtype}")
    flat = feature.reshape(*feature.shape[:2], -1)
    flat = np.ascontiguousarray(flat, dtype=np.float32)
    return ((), flat, compat, _normalization(kernel.normalization))


def cpu_count() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _threads(threads: int) -> int:
    if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)):
        raise TypeError(f"threads must be an integer, not {threads!r}")
    if not 0 <= threads <= 1024:
        raise ValueError(f"threads must be 0 (all processors) to 1024, not {threads}")
    return int(threads) or cpu_count()


def mean_field(
    unary,
    image,
    kernels: str | Preset | Sequence[Gaussian | Bilateral | Features] = "sec-test",
    steps: int | None = None,
    threads: int = 0,
    precision: str = "float16",
) -> np.ndarray:
    """Marginals of a fully connected CRF, by mean field on a permutohedral lattice.

    Arrays are numpy or any DLPack tensor in CPU memory; contiguous float32 and uint8 are not
    copied. The interpreter's lock is released. The result does not depend on the number of
    threads.

    Args:
        unary: energies -log p, (N, C, H, W) or (C, H, W) floats; +inf forbids a label.
        image: RGB in 0..255, uint8 (N, H, W, 3) or (H, W, 3); None if no kernel is bilateral.
        kernels: a preset's name, a `Preset`, or kernels.
        steps: mean-field steps; None takes the preset's, or 10.
        threads: processors to use, 0 for all; shared over images, then over pixels.
        precision: "float16" stores the tables of large lattices (texture, noise) in half precision
            where the processor converts it; "float32" stores all tables in single precision. All
            sums are float32 in both cases.

    Returns:
        Marginal probabilities, float32, the shape of `unary`.

    Raises:
        ValueError: if shapes do not fit, a value is NaN, a pixel has no possible label, or
            `precision` is unknown.
        TypeError: if an array has the wrong type or lies on a device.

    Source: Kraehenbuehl and Koltun 2011, algorithm 1. Differs: the message of a pixel to itself
    stays in, as in the authors' program.
    """
    kernels, steps = resolve(kernels, steps)
    threads = _threads(threads)
    half = _half(precision)
    energy = _unary(unary)
    if image is None:
        if any(isinstance(k, Bilateral) for k in kernels):
            raise TypeError("a bilateral kernel needs an image, but image is None")
    else:
        image = _image(image, energy)
    batch = energy[None] if energy.ndim == 3 else energy
    if image is not None:
        image = image.reshape(batch.shape[0], *batch.shape[2:], 3)
    encoded = [_encode(kernel, batch) for kernel in kernels]
    result = _core.mean_field(batch, image, encoded, steps, threads, half)
    return result.reshape(energy.shape)
