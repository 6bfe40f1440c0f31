"""The dense CRF as the target of a loss."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

import densecrf
from base.contract import Context
from base.recipe import scale_of_widths
from base.tensor import resize
from densecrf import torch as crf_torch
from refine.contrast import stretch_colours


@dataclass(frozen=True)
class TrainCRF:
    """The dense CRF whose marginals a loss learns from."""

    crf: str = "sec-test"
    """CRF preset in training, widths in pixels of a full-size image (krahenbuhl2013 wrapper)."""
    crf_scale: float | None = 12.0
    """Divides the CRF's widths in training (the released layer; the grid is about 1 / 8). None: the
    grid's longer side counts as 500 pixels, as of VOC's images."""
    crf_spread: float | None = None
    """Images whose colours deviate by fewer grey levels are stretched to it for the CRF in training
    (ours); None: the CRF sees images as they are."""
    crf_steps: int = 10
    """Mean-field iterations in training (the released layer)."""
    crf_input: Literal["logit", "score"] = "logit"
    """Negative energies of the CRF in training. SEC and SEC-MXNet's VGG16 feed logits; DSRG and
    SEC-MXNet's ResNet-50 feed probabilities, whose energies span 1 at most, so that smoothing
    dominates. Ours: SEC on ResNet-50 feeds logits, too."""


class Refinement:
    """Computes CRF marginals in a thread of its own, by the settings of a `TrainCRF`."""

    def __init__(self, config: TrainCRF):
        self.config = config
        self.thread = ThreadPoolExecutor(1, "crf")

    def marginals(self, image: Tensor, logit: Tensor) -> Tensor:
        """CRF marginals of logits (N, C, h, w) on their grid, without gradient, (N, C, h, w).

        `image`: RGB 0..255, (N, 3, H, W).
        """
        small = resize(image[:, :3].float(), logit.shape[-2:], align_corners=True)
        small = small.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        if self.config.crf_spread:
            small = stretch_colours(small, self.config.crf_spread)
        logit = logit.detach()
        energy = -logit if self.config.crf_input == "logit" else -torch.softmax(logit, dim=1)
        # The compiled lattice on a CPU, exact kernel matrices on a GPU.
        scale = scale_of_widths(self.config.crf_scale, logit.shape[-2:])
        kernels = densecrf.preset(self.config.crf, scale=scale).kernels
        return crf_torch.mean_field(energy, small, kernels, self.config.crf_steps)

    def start(self, image: Tensor, logit: Tensor, context: Context) -> Callable[[], Tensor]:
        """Begin `marginals`; call the result to wait for them.

        On a CPU they are computed while the caller goes on, because the CRF releases the
        interpreter lock. A GPU queues the work of both.
        """
        if logit.device.type == "cuda":
            with context.timer("crf"):
                target = self.marginals(image, logit)
            return lambda: target
        job = self.thread.submit(self.marginals, image, logit)

        def wait() -> Tensor:
            with context.timer("crf"):  # the part that the other losses did not hide
                return job.result()

        return wait
