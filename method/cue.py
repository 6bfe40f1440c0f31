"""SEC's two cue networks: where a tagged class shows, and where nothing is.

Both are classifiers trained from tags, on VGG16 or ResNet-50. The foreground network's class
activation maps, cut at a share of their maximum, are the cues of the tagged classes. The background
network's gradient at a middle layer tells how much a place matters to any class; where it matters
least is background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from datalist.dataset import Images
from method.recipe import MXNET, RESNET, SMALL, SMALL_RESNET, SMOKE, VGGRecipe
from method.stage import Stage
from network.resnet import BackgroundCueResNet, ForegroundCueResNet
from network.vgg import BackgroundCueVGG, ForegroundCueVGG


@dataclass(frozen=True)
class CueRecipe(VGGRecipe):
    """Solver of weak-localization: SEC's own with a longer first plateau."""

    weights: str = "torchvision"
    """Start from: none, torchvision, timm:NAME, or the path of a state dict."""
    decay_every: int = 4000
    """Steps between two cuts of the learning rate (the author, SEC issue 8)."""
    threshold: float = 0.2
    """Cells above this share of their map's maximum are cues (weak-localization)."""
    style: Literal["sec", "mxnet"] = "sec"
    """Head: SEC's (no ReLU after fc7, no bias of the foreground's scores, N(0, 0.005), only the
    scores learn faster), or that of SEC-MXNet (ReLU, bias, N(0, 0.01), the whole head does)."""


# Maps of a network from scratch are broad: on `scenes` a cut at 0.2 is right in 72 of 100 cells,
# at 0.5 in 88, and SEC lives on sure cues.
SMALL_FOREGROUND = {
    **SMALL,
    "weights": "none",
    "pool": (2, 2, 1, 0, 0),
    "dilation": (1, 1, 1, 1, 1),
    "steps": 400,
    "threshold": 0.5,
    "style": "mxnet",
}


class Classifier(Stage):
    """A network trained to name the tags of an image."""

    background = False

    def dataset(self) -> Images:
        recipe = self.recipe
        return Images(
            self.spec, recipe.split, size=recipe.size, mirror=recipe.mirror, seed=recipe.seed,
            cache=True,
        )  # fmt: skip

    def losses(self, batch: dict, step: int) -> dict[str, Tensor]:
        logit = self.forward(batch["image"])
        # The Caffe layer sums over classes; a mean would only scale the learning rate.
        loss = nn.functional.binary_cross_entropy_with_logits(logit, batch["tag"], reduction="sum")
        return {"classify": loss / len(logit)}


class ForegroundCue(Classifier):
    """Cues of the tagged classes, from class activation maps."""

    recipes: ClassVar = {
        "paper": CueRecipe(pool=(2, 2, 2, 0, 0), dilation=(1,) * 5),
        "mxnet": CueRecipe(**MXNET, style="mxnet", pool=(2, 2, 2, 0, 0), dilation=(1,) * 5),
        "paper-resnet50": CueRecipe(
            **RESNET, style="mxnet", pool=(2, 2, 2, 1, 1), dilation=(1,) * 5
        ),
        "small": CueRecipe(**SMALL_FOREGROUND),
        "small-resnet50": CueRecipe(
            **{**SMALL_FOREGROUND, **SMALL_RESNET, "pool": (2, 2, 1, 1, 1)}
        ),
        "smoke": CueRecipe(**{**SMALL_FOREGROUND, **SMOKE}),
        "smoke-resnet50": CueRecipe(
            **{**SMALL_FOREGROUND, **SMALL_RESNET, **SMOKE, "pool": (2, 2, 1, 1, 1)}
        ),
    }

    def __init__(self, recipe, spec):
        super().__init__(recipe, spec)
        kind = {"vgg16": ForegroundCueVGG, "resnet50": ForegroundCueResNet}[recipe.backbone]
        self.network = kind(
            spec.num_classes - 1, recipe.hidden, recipe.dropout, recipe.style, **recipe.trunk()
        )

    @torch.no_grad()
    def maps(self, image: Tensor, tag: Tensor | None) -> Tensor:
        """Class activation maps over their maximum, at most 1, zero for untagged classes."""
        cam = self.network.cam(image).float()
        peak = cam.amax(dim=(2, 3), keepdim=True)
        # A map without a positive value has no place that speaks for its class.
        cam = torch.where(peak > 0, cam / peak.clamp_min(1e-12), torch.zeros_like(cam))
        return cam if tag is None else cam * tag[:, :, None, None].to(cam)

    def scores(self, image: Tensor, tag: Tensor | None = None) -> Tensor:
        return self.maps(image, tag).clamp_min(0)

    def cues(self, image: Tensor, tag: Tensor) -> Tensor:
        cue = self.maps(image, tag) > self.recipe.threshold
        return torch.cat((torch.zeros_like(cue[:, :1]), cue), dim=1)


@dataclass(frozen=True)
class BackgroundCueRecipe(CueRecipe):
    """Plain VGG16 with 2 x 2 pools."""

    pool: tuple[int, ...] = (2, 2, 2, 2, 2)
    """Stride of the pool after each block."""
    window: int = 2
    """Side of the pools, pixels."""
    dilation: tuple[int, ...] = (1, 1, 1, 1, 1)
    """Dilation of each block's convolutions."""
    threshold: float = 0.1
    """Share of the grid, least salient first, that is background."""
    head: Literal["dense", "average"] = "dense"
    """Fully connected layers (as released), or 3 x 3 convolutions and the global average (ours)."""
    layer: str = "conv4_1"
    """Layer whose gradient is the saliency, conv4_1 of VGG16 or layer2.1 of ResNet-50 (res3b of
    SEC-MXNet); its grid is the cues' grid."""
    median: int = 3
    """Side of the median filter on the saliency, cells."""


# From scratch the dense head learns nothing in some hundred steps. With the average, the lowest
# tenth at conv3_1 is background with precision 0.99 on `scenes`, at conv4_1 0.88.
SMALL_BACKGROUND = {
    **SMALL,
    "weights": "none",
    "pool": (2, 2, 1, 0, 0),
    "steps": 300,
    "head": "average",
    "layer": "conv3_1",
    "style": "mxnet",
}


class BackgroundCue(Classifier):
    """Cues of the background, from gradient saliency."""

    recipes: ClassVar = {
        "paper": BackgroundCueRecipe(),
        "mxnet": BackgroundCueRecipe(**MXNET, style="mxnet", dropout=0.0),
        "paper-resnet50": BackgroundCueRecipe(
            **RESNET, style="mxnet", layer="layer2.1", dropout=0.0
        ),
        "small": BackgroundCueRecipe(**SMALL_BACKGROUND),
        "small-resnet50": BackgroundCueRecipe(
            **{**SMALL_BACKGROUND, **SMALL_RESNET, "pool": (2, 2, 1, 1, 1), "layer": "layer2.0"}
        ),
        "smoke": BackgroundCueRecipe(**{**SMALL_BACKGROUND, **SMOKE}),
        "smoke-resnet50": BackgroundCueRecipe(
            **{**SMALL_BACKGROUND, **SMALL_RESNET, **SMOKE, "pool": (2, 2, 1, 1, 1),
               "layer": "layer2.0", "head": "dense"}
        ),
    }  # fmt: skip

    def __init__(self, recipe, spec):
        super().__init__(recipe, spec)
        kind = {"vgg16": BackgroundCueVGG, "resnet50": BackgroundCueResNet}[recipe.backbone]
        self.network = kind(
            spec.num_classes - 1,
            recipe.size,
            recipe.hidden,
            recipe.dropout,
            recipe.head,
            recipe.layer,
            recipe.style,
            **recipe.trunk(),
        )

    def scores(self, image: Tensor, tag: Tensor | None = None) -> Tensor:
        """Saliency over its maximum, the same for every class, (N, K, h, w)."""
        saliency = self.saliency(image)
        saliency = saliency / saliency.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)
        return saliency[:, None].expand(-1, self.num_classes - 1, -1, -1)

    def saliency(self, image: Tensor) -> Tensor:
        """Median-filtered gradient saliency, (N, h, w), >= 0."""
        raw = self.network.saliency(image).float().cpu().numpy()
        side = self.recipe.median
        return torch.from_numpy(np.stack([ndimage.median_filter(m, side) for m in raw]))

    def cues(self, image: Tensor, tag: Tensor) -> Tensor:
        saliency = self.saliency(image)
        flat = saliency.flatten(1)
        rank = int(self.recipe.threshold * flat.shape[1])
        cut = flat.sort(dim=1).values[:, rank, None, None]
        cue = torch.zeros(len(saliency), self.num_classes, *saliency.shape[1:], dtype=torch.bool)
        cue[:, 0] = saliency < cut
        return cue
