"""SEC's two cue networks: where a tagged class shows, and where nothing is.

Both are classifiers trained from tags, on VGG16 or ResNet-50. The foreground network's class
activation maps, cut at a share of their maximum, are the cues of the tagged classes. The background
network's gradient at a middle layer tells how much a position matters to any class; where it
matters least is background.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from base.contract import Context, Term
from base.recipe import Data, Flat, Prediction, Solver, change
from method import preset
from method.backbone import VGG16, Backbone, ResNet
from method.head import refuse
from method.stage import Stage, of_tags, with_constant
from network.cue import BackgroundCueHead, BackgroundCueNet, ForegroundCueHead, ForegroundCueNet

SOLVER = Solver(decay_every=4000)
"""SEC's solver with a longer first plateau (the author, kolesman/SEC issue 8)."""
SMALL_RESNET = replace(preset.SMALL_RESNET, dilation=(1,) * 4)


class Classifier(Stage):
    """A network trained to name the tags of an image."""

    can: ClassVar = frozenset({"cue"})

    def terms(self, batch: dict, context: Context) -> dict[str, Term]:
        logit = context.run(self.network, batch["image"])
        # The Caffe layer sums over classes; a mean would only scale the learning rate.
        loss = nn.functional.binary_cross_entropy_with_logits(logit, batch["tag"], reduction="sum")
        return {"classify": loss / len(logit)}


@dataclass(frozen=True)
class ForegroundCueRecipe:
    """SEC's foreground classifier; defaults are those of weak-localization/foreground."""

    data: Flat[Data] = Data()
    solver: Flat[Solver] = SOLVER
    backbone: Flat[Backbone] = VGG16(pool=(2, 2, 2, 0, 0), dilation=(1,) * 5)
    head: Flat[ForegroundCueHead] = ForegroundCueHead()
    prediction: Flat[Prediction] = Prediction()


FOREGROUND_MXNET = ForegroundCueRecipe(
    preset.MXNET_DATA, Solver(), head=ForegroundCueHead(style="mxnet")
)
# Maps of a network from scratch are broad: on `scenes` a cut at 0.2 is right in 72 of 100 cells,
# at 0.5 in 88, and SEC needs sure cues.
SMALL_FOREGROUND = ForegroundCueRecipe(
    data=preset.SMALL_DATA,
    solver=preset.SMALL_SOLVER,
    backbone=replace(preset.SMALL_VGG16, pool=(2, 2, 1, 0, 0), dilation=(1,) * 5),
    head=ForegroundCueHead(hidden=128, dropout=0.1, style="mxnet", threshold=0.5),
)


class ForegroundCue(Classifier):
    """Cues of tagged classes, from activation maps."""

    can: ClassVar = frozenset({"predict", "cue", "export"})
    recipes: ClassVar = {
        "paper": ForegroundCueRecipe(),
        "mxnet": FOREGROUND_MXNET,
        "paper-resnet50": replace(
            FOREGROUND_MXNET, backbone=ResNet(stride=(2, 2, 2, 1, 1), norm=False)
        ),
        "small": SMALL_FOREGROUND,
        "small-resnet50": replace(SMALL_FOREGROUND, backbone=SMALL_RESNET),
    }

    def __init__(self, recipe: ForegroundCueRecipe, spec):
        if not isinstance(recipe.backbone, VGG16 | ResNet):
            raise refuse(recipe.backbone, "cue-foreground")
        trunk = recipe.backbone.trunk()
        super().__init__(recipe, spec, ForegroundCueNet(trunk, spec.num_classes - 1, recipe.head))

    def maps(self, images: Tensor) -> Tensor:
        """Class activation maps over their maximum, at most 1."""
        cam = self.network.cam(images).float()
        peak = cam.amax(dim=(2, 3), keepdim=True)
        # A map without a positive value has no position that speaks for its class.
        return torch.where(peak > 0, cam / peak.clamp_min(1e-12), torch.zeros_like(cam))

    def view(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self.maps(image).clamp_min(0),)

    def join(self, means: Sequence[Tensor], tags: Tensor | None, count: int) -> Tensor:
        """Maps over their maximum; the background scores the cut of the cues."""
        return with_constant(of_tags(means[0], tags), self.recipe.head.threshold)

    def cues(self, images: Tensor, tags: Tensor) -> Tensor:
        cue = of_tags(self.maps(images), tags) > self.recipe.head.threshold
        return torch.cat((torch.zeros_like(cue[:, :1]), cue), dim=1)


@dataclass(frozen=True)
class BackgroundCueRecipe:
    """SEC's background classifier; defaults are those of weak-localization/background."""

    data: Flat[Data] = Data()
    solver: Flat[Solver] = SOLVER
    backbone: Flat[Backbone] = VGG16(pool=(2,) * 5, pool_size=2, dilation=(1,) * 5)
    head: Flat[BackgroundCueHead] = BackgroundCueHead()
    prediction: Flat[Prediction] = Prediction()


MXNET_HEAD = BackgroundCueHead(dropout=0.0, style="mxnet")
BACKGROUND_MXNET = BackgroundCueRecipe(preset.MXNET_DATA, Solver(), head=MXNET_HEAD)
# From scratch the dense head learns nothing in some hundred steps. With the average, the lowest
# tenth at conv3_1 is background with precision 0.99 on `scenes`, at conv4_1 0.88.
SMALL_BACKGROUND = BackgroundCueRecipe(
    data=preset.SMALL_DATA,
    solver=replace(preset.SMALL_SOLVER, steps=300),
    backbone=replace(preset.SMALL_VGG16, pool=(2, 2, 1, 0, 0), pool_size=2, dilation=(1,) * 5),
    head=BackgroundCueHead(hidden=128, dropout=0.1, head="average", style="mxnet", layer="conv3_1"),
)


class BackgroundCue(Classifier):
    """Cues of the background, from gradient saliency."""

    recipes: ClassVar = {
        "paper": BackgroundCueRecipe(),
        "mxnet": BACKGROUND_MXNET,
        "paper-resnet50": change(
            BACKGROUND_MXNET, backbone=ResNet(stride=(2,) * 5, norm=False), layer="layer2.1"
        ),
        "small": SMALL_BACKGROUND,
        "small-resnet50": change(SMALL_BACKGROUND, backbone=SMALL_RESNET, layer="layer2.0"),
    }

    def __init__(self, recipe: BackgroundCueRecipe, spec):
        if not isinstance(recipe.backbone, VGG16 | ResNet):
            raise refuse(recipe.backbone, "cue-background")
        trunk, size = recipe.backbone.trunk(), recipe.data.size
        assert size is not None, "build_stage sets it"
        adapt = isinstance(recipe.backbone, ResNet)
        network = BackgroundCueNet(trunk, spec.num_classes - 1, size, recipe.head, adapt)
        super().__init__(recipe, spec, network)

    def saliency(self, images: Tensor) -> Tensor:
        """Median-filtered gradient saliency, (N, h, w), >= 0."""
        raw = self.network.saliency(images).float().cpu().numpy()
        side = self.recipe.head.median
        return torch.from_numpy(np.stack([ndimage.median_filter(m, side) for m in raw]))

    def cues(self, images: Tensor, tags: Tensor) -> Tensor:
        saliency = self.saliency(images)
        flat = saliency.flatten(1)
        rank = int(self.recipe.head.threshold * flat.shape[1])
        cut = flat.sort(dim=1).values[:, rank, None, None]
        cue = torch.zeros(len(saliency), self.num_classes, *saliency.shape[1:], dtype=torch.bool)
        cue[:, 0] = saliency < cut
        return cue
