"""Mean field on torch tensors, on the device where they are.

Three engines share one signature: the compiled lattice (CPU), exact kernel matrices (grids of some
thousand pixels) and the lattice in torch operations (full-size images on a GPU). None has a
gradient: the marginals are constants, as in SEC and DSRG.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from . import batch
from .kernel import (
    NORMALIZATIONS,
    Bilateral,
    Features,
    Gaussian,
    Preset,
    _compat,
    _half,
    _widths,
    resolve,
)

ENGINES = ("auto", "exact", "lattice")
# Up to here one kernel matrix (64 MiB) multiplies faster than a lattice is built.
EXACT_PIXELS = 4096
# Bytes of kernel matrices that the exact engine keeps; beyond, it computes them anew each step.
MEMORY = 2 << 30


@torch.no_grad()
def mean_field(
    unary: Tensor,
    image: Tensor | None,
    kernels: str | Preset | Sequence[Gaussian | Bilateral | Features] = "sec-test",
    steps: int | None = None,
    engine: str = "auto",
    precision: str = "float16",
) -> Tensor:
    """Marginals of a fully connected CRF, on the device of `unary`.

    Args:
        unary: energies -log p, floating, (N, C, H, W) or (C, H, W); +inf forbids a label.
        image: RGB in 0..255, uint8 (N, H, W, 3) or (H, W, 3), on the same device.
        kernels: a preset's name, a `Preset`, or kernels.
        steps: mean-field steps; None takes the preset's, or 10.
        engine: "exact" (memory bounded, time grows with the square of pixels), "lattice" (torch
            operations), or "auto": the compiled lattice on a CPU; on a GPU exact up to
            `EXACT_PIXELS` pixels, then lattice.
        precision: of the tables of the compiled lattice, see `densecrf.mean_field`; the other
            engines compute in float32.

    Returns:
        Marginal probabilities, float32, shape and device of `unary`, without gradient.

    Raises:
        ValueError, TypeError: as `densecrf.mean_field`, or if the devices differ.

    Source: Kraehenbuehl and Koltun 2011, algorithm 1; Adams et al. 2010 for the lattice.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {ENGINES}, not {engine!r}")
    kernels, steps = resolve(kernels, steps)
    _half(precision)
    energy, pixels = _check(unary, image, kernels)
    if engine == "auto" and energy.device.type == "cpu":
        result = batch.mean_field(energy, pixels, kernels, steps, precision=precision)
        return torch.from_numpy(result).reshape(unary.shape)
    count, labels, height, width = energy.shape
    logit = (-energy.flatten(2)).clamp(-1e30, 1e30)
    # One question to the device instead of two.
    nan, stuck = energy.isnan().any(), (logit.amax(1) <= -1e30).any()
    if bool(nan | stuck | (energy == -math.inf).any()):
        raise ValueError("unary holds NaN or -inf, or is +inf for every label of some pixel")
    size = height * width
    if engine == "auto":
        engine = "exact" if size <= EXACT_PIXELS else "lattice"
    make = _Exact if engine == "exact" else _Lattice
    marginal = torch.empty_like(logit)
    # Images are independent; as many at a time as memory takes.
    bytes_each = 4 * size * (size * len(kernels) if engine == "exact" else 16 * labels)
    share = max(1, min(count, MEMORY // max(1, bytes_each)))
    for first in range(0, count, share):
        part = slice(first, first + share)
        pictures = None if pixels is None else pixels[part]
        filters = [
            (make(_features(kernel, pictures, part, energy)), kernel.normalization, kernel.compat)
            for kernel in kernels
        ]
        marginal[part] = _iterate(logit[part], filters, steps)
    return marginal.reshape(unary.shape)


def _check(unary: Tensor, image: Tensor | None, kernels) -> tuple[Tensor, Tensor | None]:
    if not isinstance(unary, Tensor) or not unary.is_floating_point():
        raise TypeError("unary must be a floating tensor of energies (-log probability)")
    if unary.ndim not in (3, 4) or 0 in unary.shape[-3:]:
        raise ValueError(f"unary must be (N, C, H, W) or (C, H, W), not {tuple(unary.shape)}")
    energy = unary.detach().float()
    energy = energy[None] if energy.ndim == 3 else energy
    if image is None:
        if any(isinstance(k, Bilateral) for k in kernels):
            raise TypeError("a bilateral kernel needs an image, but image is None")
        return energy, None
    if not isinstance(image, Tensor) or image.dtype != torch.uint8:
        raise TypeError("image must be a uint8 tensor, RGB in 0..255")
    expected = (*unary.shape[:-3], *unary.shape[-2:], 3)
    if tuple(image.shape) != expected:
        raise ValueError(f"image must be (..., height, width, 3) = {expected}, not {image.shape}")
    if image.device != unary.device:
        raise ValueError(f"image is on {image.device}, unary on {unary.device}")
    return energy, image.reshape(energy.shape[0], *energy.shape[2:], 3)


def _features(kernel, image: Tensor | None, part: slice, energy: Tensor) -> Tensor:
    """Features divided by their widths, (N, P, D)."""
    count, labels, height, width = energy[part].shape
    compat = _compat(kernel.compat)
    if compat.ndim and any(n != labels for n in compat.shape):
        raise ValueError(f"compat of shape {compat.shape} does not fit {labels} labels")
    if isinstance(kernel, Features):
        feature = torch.as_tensor(kernel.feature, dtype=torch.float32, device=energy.device)
        feature = feature[None] if feature.ndim == 3 else feature
        if feature.ndim != 4 or feature.shape[::2] != energy.shape[::2]:
            raise ValueError(f"feature of shape {tuple(feature.shape)} does not fit unary")
        if feature.shape[3] != width or not bool(feature.isfinite().all()):
            raise ValueError("features must fit unary and be finite")
        return feature[part].flatten(2).transpose(1, 2)
    # A width that float32 rounds to zero would make 0 / 0 of the first row and column.
    sx, sy = (max(w, 1e-30) for w in _widths("sxy", kernel.sxy, 2))
    x = torch.arange(width, device=energy.device, dtype=torch.float32) / sx
    y = torch.arange(height, device=energy.device, dtype=torch.float32) / sy
    place = torch.stack((x.expand(height, -1), y[:, None].expand(-1, width)), dim=-1)
    place = place.reshape(1, -1, 2).expand(count, -1, -1)
    if isinstance(kernel, Gaussian):
        return place
    widths = torch.tensor(_widths("srgb", kernel.srgb, 3), device=energy.device)
    colour = image.reshape(count, -1, 3).float() / widths.float()
    return torch.cat((place, colour), dim=2)


def _iterate(logit: Tensor, filters: list, steps: int) -> Tensor:
    """Mean field on (N, C, P)."""
    device = logit.device
    terms = []
    for apply, normalization, compat in filters:
        before = after = 1.0
        if normalization != NORMALIZATIONS[0]:
            sums = apply(torch.ones_like(logit[:, :1])) + 1e-20
            if normalization == "symmetric":
                before = after = sums.rsqrt()
            elif normalization == "before":
                before = 1 / sums
            else:
                after = 1 / sums
        mu = torch.from_numpy(_compat(compat)).to(device)
        terms.append((apply, before, after, (mu + mu.T) / 2 if mu.ndim == 2 else mu))
    marginal = logit.softmax(1)
    for _ in range(steps):
        total = logit
        for apply, before, after, mu in terms:
            message = apply(marginal * before) * after
            if mu.ndim == 0:
                total = total + mu * message
            elif mu.ndim == 1:
                total = total - mu[:, None] * message
            else:
                total = total - mu @ message
        marginal = total.softmax(1)
    return marginal


class _Exact:
    """Product with the kernel matrix, kept if it fits `MEMORY`, else computed block by block."""

    def __init__(self, feature: Tensor) -> None:
        self.feature = feature.contiguous()
        count, size, _ = feature.shape
        # Features of position alone may be one matrix for all images.
        self.shared = count > 1 and feature.stride(0) == 0
        if self.shared:
            self.feature = feature[:1].contiguous()
        self.rows = max(1, MEMORY // (4 * 4 * size * self.feature.shape[0]))
        keep = self.feature.shape[0] * size * size * 4 <= MEMORY
        self.matrix = self._block(0, size) if keep else None

    def _block(self, first: int, last: int) -> Tensor:
        part = self.feature[:, first:last]
        # The product form of cdist loses the digits that the exponent needs.
        distance = torch.cdist(part, self.feature, compute_mode="donot_use_mm_for_euclid_dist")
        exponent = distance.square_().mul_(-0.5)
        # exp(-30) is far below a rounding of the diagonal's 1; left in, it breeds denormals.
        return torch.threshold_(exponent, -30.0, -math.inf).exp_()

    def __call__(self, value: Tensor) -> Tensor:
        """(N, C, P) -> (N, C, P); the matrix is symmetric."""
        if self.matrix is not None:
            return value @ self.matrix
        size = value.shape[2]
        parts = range(0, size, self.rows)
        blocks = [value @ self._block(i, min(i + self.rows, size)).transpose(1, 2) for i in parts]
        return torch.cat(blocks, dim=2)


class _Lattice:
    """Splat, blur and slice on one permutohedral lattice that holds all images of a batch."""

    def __init__(self, feature: Tensor) -> None:
        count, size, self.dim = feature.shape
        self.gain = 1 / (1 + 2.0**-self.dim)
        coordinate, self.weight = _embed(feature.reshape(count * size, self.dim))
        self.corner, self.before, self.after = _connect(coordinate, count, size)

    def __call__(self, value: Tensor) -> Tensor:
        """(N, C, P) -> (N, C, P)."""
        count, channels, size = value.shape
        rows = value.transpose(1, 2).reshape(count * size, channels)
        vertices = self.before.shape[1]
        # The last row stays zero: absent neighbours point to it.
        table = rows.new_zeros(vertices + 1, channels)
        for r in range(self.dim + 1):
            table.index_add_(0, self.corner[r], rows * self.weight[r][:, None])
        for j in range(self.dim + 1):
            near = table[self.before[j]] + table[self.after[j]]
            table[:-1] += near.mul_(0.5)
        result = torch.zeros_like(rows)
        for r in range(self.dim + 1):
            result += table[self.corner[r]] * self.weight[r][:, None]
        return (result * self.gain).reshape(count, size, channels).transpose(1, 2)


def _embed(feature: Tensor) -> tuple[Tensor, Tensor]:
    """Vertices around each point: coordinates (d + 1, points, d + 1), weights (d + 1, points)."""
    points, d = feature.shape
    deviation = math.sqrt(2 / 3) * (d + 1)
    lifted = feature.new_empty(d + 1, points)
    total = feature.new_zeros(points)
    for j in range(d, 0, -1):
        x = feature[:, j - 1] * (1 / math.sqrt(j * (j + 1)) * deviation)
        lifted[j] = total - j * x
        total = total + x
    lifted[0] = total
    if points and not bool(lifted.abs().amax() <= 1e6):
        raise ValueError("a kernel width is too small for the torch lattice; use a larger width")
    base = (lifted / (d + 1)).round()
    offset = lifted - base * (d + 1)
    rank = torch.zeros_like(base, dtype=torch.long)
    for i in range(d):
        for j in range(i + 1, d + 1):
            less = (offset[i] < offset[j]).long()
            rank[i] += less
            rank[j] += 1 - less
    base = base.long()
    rank += base.sum(0)
    turn = (rank < 0).long() - (rank > d).long()
    rank += turn * (d + 1)
    base += turn
    offset = (offset - turn * (d + 1)) / (d + 1)
    ordered = torch.zeros_like(offset).scatter_(0, rank, offset)
    weight = torch.cat((1 + ordered[d:] - ordered[:1], (ordered[:-1] - ordered[1:]).flip(0)))
    remainder = torch.arange(d + 1, device=feature.device)[:, None, None]
    shift = remainder - (rank[None] > d - remainder).long() * (d + 1)
    return (base * (d + 1) + shift).transpose(1, 2), weight


def _connect(coordinate: Tensor, count: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Vertex of each corner (d + 1, points), neighbours (d + 1, vertices) along each axis."""
    corners, points, _ = coordinate.shape
    d = corners - 1
    low = coordinate.amin((0, 1)) - corners  # room for neighbours
    high = coordinate.amax((0, 1)) + corners
    span = (high - low + 1).tolist()[:d]  # the last coordinate follows from the others
    scale = [1] * d
    for i in range(d - 2, -1, -1):
        scale[i] = scale[i + 1] * span[i + 1]
    per_image = scale[0] * span[0]
    if per_image * count >= 2**63:
        raise ValueError("too many features or too small widths for the torch lattice")
    factor = torch.tensor(scale, device=coordinate.device)
    key = ((coordinate[..., :d] - low[:d]) * factor).sum(2)
    key = key + (torch.arange(points, device=key.device) // size) * per_image
    vertex, corner = torch.unique(key, return_inverse=True)
    before, after = [], []
    for j in range(corners):
        step = sum(scale) - (corners * scale[j] if j < d else 0)
        for side, found in ((-step, before), (step, after)):
            wanted = vertex + side
            at = torch.searchsorted(vertex, wanted).clamp_(max=len(vertex) - 1)
            found.append(torch.where(vertex[at] == wanted, at, len(vertex)))
    return corner, torch.stack(before), torch.stack(after)
