"""SEC: seed, expand and constrain (Kolesnikov and Lampert, ECCV 2016).

A DeepLab-LargeFOV network learns from localization cues. Three losses share the work: the seeding
loss trusts the cues, the expansion loss asks each tagged class for a plausible share of the image
and absent classes for none, the constrain-to-boundary loss pulls the scores to what a dense CRF
makes of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

import densecrf
from base import UserError
from datalist.cue import CueFile
from datalist.dataset import Images
from densecrf import torch as crf_torch
from loss import constrain_loss, decay_for, expand_loss, floor_softmax, seed_loss
from method.recipe import MXNET, RESNET, SMALL, SMALL_RESNET, SMOKE, VGGRecipe
from method.stage import Stage
from network.resnet import ResNetFOV
from network.vgg import LargeFOV


@dataclass(frozen=True)
class FOVRecipe(VGGRecipe):
    """DeepLab-LargeFOV and its CRF at test."""

    weights: str = "torchvision"
    """Start from: none, torchvision, timm:NAME, or a state dict (the paper: vgg16_20M, Caffe)."""
    rate: int = 12
    """Dilation of fc6 (train.prototxt)."""
    crf: str = "sec-test"
    """CRF preset, widths in pixels of a full-size image (krahenbuhl2013 wrapper)."""
    test_crf: str = ""
    """CRF preset at test; empty: as `crf`. SEC-MXNet trains with a colour width of 13 and tests
    with 10 ("sec-mxnet"), as "mxnet" and "paper-resnet50" do here. Ours: one width, so that the
    network is trained towards the edges that it is tested with."""
    test_crf_scale: float = 1.0
    """Divides the CRF's widths at test (deploy/demo.py)."""


@dataclass(frozen=True)
class SECRecipe(FOVRecipe):
    """The three losses as released."""

    cue: str = ""
    """Cue file (.npz, or the official localization_cues.pickle.gz)."""
    floor: float = 1e-4
    """Added to each probability before the losses (min_prob of the released layers)."""
    decay_foreground: float = 0.996
    """Rank-pooling decay of tagged classes (paper), on a grid of `decay_grid`."""
    decay_background: float = 0.999
    """Rank-pooling decay of the background (paper), on a grid of `decay_grid`."""
    decay_grid: tuple[int, int] = (41, 41)
    """Grid of the two decays; on other grids the share of pixels with half the weight is kept."""
    crf_scale: float = 12.0
    """Divides the CRF's widths at training (the released layer; the grid is about 1 / 8)."""
    crf_steps: int = 10
    """Mean-field iterations at training."""
    crf_input: Literal["logit", "score"] = "logit"
    """What the CRF takes for negative energies at training. SEC and SEC-MXNet's VGG16 feed logits;
    its ResNet-50 feeds probabilities, whose energies span 1 at most, so that smoothing drowns
    them. Ours: logits for both, as one loss should mean one thing."""
    seed_weight: float = 1.0
    """Weight of the seeding loss (paper); 0 leaves it out."""
    expand_weight: float = 1.0
    """Weight of the expansion loss (paper); 0 leaves it out."""
    constrain_weight: float = 1.0
    """Weight of the constrain-to-boundary loss (paper); 0 leaves it out."""


SMALL_SEC = {
    **SMALL,
    "weights": "none",
    "pool": (2, 2, 1, 1, 1),
    "rate": 6,
    "test_crf_scale": 4.0,
}


class FieldOfView(Stage):
    """A DeepLab-LargeFOV network and what it predicts."""

    def __init__(self, recipe, spec):
        super().__init__(recipe, spec)
        kind = {"vgg16": LargeFOV, "resnet50": ResNetFOV}[recipe.backbone]
        self.network = kind(
            spec.num_classes, recipe.hidden, recipe.rate, recipe.dropout, **recipe.trunk()
        )

    def test_crf(self) -> densecrf.Preset:
        recipe = self.recipe
        return densecrf.preset(recipe.test_crf or recipe.crf, scale=recipe.test_crf_scale)

    def scores(self, image: Tensor, tag: Tensor | None = None) -> Tensor:
        return torch.softmax(self.forward(image), dim=1)


class SEC(FieldOfView):
    """DeepLab-LargeFOV under the three losses."""

    recipes: ClassVar = {
        "paper": SECRecipe(),
        "mxnet": SECRecipe(**MXNET, dropout=0.0, test_crf="sec-mxnet"),
        "paper-resnet50": SECRecipe(
            **RESNET, hidden=512, dilation=(1, 1, 1, 2, 4), test_crf="sec-mxnet"
        ),
        "small": SECRecipe(**SMALL_SEC),
        "small-resnet50": SECRecipe(**{**SMALL_SEC, **SMALL_RESNET, "dilation": (1, 1, 1, 2, 4)}),
        "smoke": SECRecipe(**{**SMALL_SEC, **SMOKE}),
        "smoke-resnet50": SECRecipe(
            **{**SMALL_SEC, **SMALL_RESNET, **SMOKE, "dilation": (1, 1, 1, 2, 4)}
        ),
    }

    def __init__(self, recipe, spec):
        super().__init__(recipe, spec)
        self.preset = densecrf.preset(recipe.crf, scale=recipe.crf_scale)
        self.thread = ThreadPoolExecutor(1, "crf")

    def dataset(self) -> Images:
        recipe = self.recipe
        if not recipe.cue:
            raise UserError("this stage learns from cues: --cue FILE (script/cue.sh makes one)")
        return Images(
            self.spec, recipe.split, size=recipe.size, cue=CueFile.open(recipe.cue),
            grid=grid_size(recipe.size, recipe.pool), mirror=recipe.mirror, seed=recipe.seed,
            cache=True,
        )  # fmt: skip

    def marginals(self, image: Tensor, logit: Tensor) -> Tensor:
        """CRF marginals of logits on the network's grid, (N, C, h, w), without gradient."""
        small = nn.functional.interpolate(
            image.float(), size=logit.shape[-2:], mode="bilinear", align_corners=True
        )
        small = small.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        logit = logit.detach()
        energy = -logit if self.recipe.crf_input == "logit" else -torch.softmax(logit, dim=1)
        # The compiled lattice on a CPU, exact kernel matrices on a GPU.
        return crf_torch.mean_field(energy, small, self.preset.kernels, self.recipe.crf_steps)

    def start_marginals(self, image: Tensor, logit: Tensor) -> Callable[[], Tensor]:
        """Begin `marginals`; what is returned waits for them.

        On a CPU they are computed beside what the caller does next, for the CRF holds no lock; a
        GPU queues the work of both alike.
        """
        if logit.device.type == "cuda":
            with self.part("crf"):
                target = self.marginals(image, logit)
            return lambda: target
        job = self.thread.submit(self.marginals, image, logit)

        def wait() -> Tensor:
            with self.part("crf"):  # what of it the other losses did not hide
                return job.result()

        return wait

    def losses(self, batch: dict, step: int) -> dict[str, Tensor]:
        recipe = self.recipe
        logit = self.forward(batch["image"])
        if recipe.constrain_weight:
            marginals = self.start_marginals(batch["image"], logit)
        score = floor_softmax(logit, recipe.floor)
        positions = logit.shape[-2] * logit.shape[-1]
        reference = math.prod(recipe.decay_grid)
        terms = {}
        if recipe.seed_weight:
            terms["seed"] = recipe.seed_weight * seed_loss(score, batch["cue"])
        if recipe.expand_weight:
            terms["expand"] = recipe.expand_weight * expand_loss(
                score,
                batch["tag"],
                decay_for(recipe.decay_foreground, reference, positions),
                decay_for(recipe.decay_background, reference, positions),
            )
        if recipe.constrain_weight:
            terms["constrain"] = recipe.constrain_weight * constrain_loss(
                score, marginals(), recipe.floor
            )
        return terms

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        shown = {"prediction": self.scores(batch["image"]).argmax(1)}
        if "cue" in batch:
            cue = batch["cue"]
            shown["cue"] = torch.where(cue.any(1), cue.float().argmax(1), 255)
        return shown


def grid_size(size: tuple[int, int], pool: tuple[int, ...]) -> tuple[int, int]:
    """Output grid of a VGG trunk: each pool of stride s rounds size / s up."""
    height, width = size
    for stride in pool:
        if stride:
            height, width = -(-height // stride), -(-width // stride)
    return height, width
