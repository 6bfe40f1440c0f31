"""Learning to segment from masks: the true ones, which is the ceiling, or another network's.

`Supervised` is SEC's network on true masks. `Retrain` is step 2 of DSRG: the network of step 1
labels its training images, restricted to their tags, and learns from these masks as if they were
true. `DeepLab` is the last stage of RecurSeed, DHR, Locate and others: a DeepLab-v3+ (Chen et al.,
ECCV 2018) on ResNet-101.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from base.contract import Context, Term
from base.recipe import Data, Flat, Prediction, Solver, change
from base.tensor import resize, resize_mask
from datalist.dataset import Images
from method import preset
from method.backbone import VGG16, Backbone, ResNet
from method.head import DecoderHead, Head, LargeFOVHead, PyramidHead
from method.stage import SoftmaxMean, SoftmaxOfSum
from method.target import FromMasks, PseudoMasks, segment_loss


class Segment(SoftmaxMean):
    """Cross entropy on masks at the network's own resolution; with a fine head, at theirs."""

    full_size: ClassVar = False
    """Whether every head learns at the masks' size."""

    def terms(self, batch: dict, context: Context) -> dict[str, Term]:
        logit, mask = context.run(self.network, batch["image"]), batch["mask"]
        if self.full_size or getattr(self.recipe.head, "fine", False):
            return {"segment": segment_loss(resize(logit, mask.shape[-2:]), mask)}
        return {"segment": segment_loss(logit, resize_mask(mask, logit.shape[-2:]))}

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        """The masks learned from, and the prediction."""
        return {"mask": batch["mask"], "prediction": self.network(batch["image"]).argmax(1)}


# -- supervised: SEC's network on true masks ------------------------------------------------------


@dataclass(frozen=True)
class Masks:
    """Masks to learn from."""

    mask_folder: str = ""
    """Folder of masks, ID.png; empty: the data set's true masks."""


@dataclass(frozen=True)
class SupervisedRecipe:
    """SEC's network and solver on masks."""

    data: Flat[Data] = Data()
    solver: Flat[Solver] = Solver()
    backbone: Flat[Backbone] = VGG16()
    head: Flat[Head] = LargeFOVHead()
    masks: Flat[Masks] = Masks()
    prediction: Flat[Prediction] = preset.SEC_TEST


MXNET = SupervisedRecipe(
    preset.MXNET_DATA, head=LargeFOVHead(dropout=0.0), prediction=preset.MXNET_TEST
)
SMALL = SupervisedRecipe(
    *preset.SMALL_ON_VGG16, head=preset.SMALL_FOV, prediction=preset.SMALL_SEC_TEST
)


class Supervised(Segment):
    """Cross entropy on true masks at the logits' size."""

    recipes: ClassVar = {
        # not measured
        "paper": SupervisedRecipe(),
        "mxnet": MXNET,
        "paper-resnet50": change(
            MXNET, backbone=preset.RESNET50_AT_8, head=LargeFOVHead(hidden=512)
        ),
        # train.py supervised --dataset scenes: 85.0 before the last corrections; 2 cores
        "small": SMALL,
        "small-resnet50": replace(SMALL, backbone=preset.SMALL_RESNET_DILATED),
        # train.py supervised --dataset data/msrc-objects: 79.0 (3 seeds), 5 minutes on 1 core
        "photo": preset.photo(SupervisedRecipe(), epochs=10),
    }

    def dataset(self) -> Images:
        return self.images(mask=self.recipe.masks.mask_folder or self.spec.mask_folder)


# -- dsrg-retrain: step 2 of DSRG -----------------------------------------------------------------


@dataclass(frozen=True)
class RetrainRecipe:
    """Step 2 as released: solver-f.prototxt and train-f.prototxt."""

    data: Flat[Data] = Data(fit="crop", mirror=True)
    solver: Flat[Solver] = Solver(steps=20000, batch=10, policy="poly")
    backbone: Flat[Backbone] = VGG16()
    head: Flat[Head] = PyramidHead()
    masks: Flat[PseudoMasks] = PseudoMasks()
    prediction: Flat[Prediction] = preset.DSRG_TEST


SMALL_RETRAIN = RetrainRecipe(
    # Objects of `scenes` on three test scales: a network from scratch must have seen them so.
    data=replace(preset.SMALL_DATA, fit="crop", scale=(0.75, 1.25)),
    solver=replace(preset.SMALL_SOLVER, steps=800),
    backbone=preset.SMALL_VGG16,
    head=preset.SMALL_PYRAMID,
    prediction=preset.SMALL_DSRG_TEST,
)


class Retrain(FromMasks, SoftmaxOfSum, Segment):
    """Step 2: cross entropy on the masks of step 1."""

    recipes: ClassVar = {
        # not measured; published: 59.0 on VOC 2012 val
        "paper": RetrainRecipe(),
        "paper-resnet101": RetrainRecipe(backbone=preset.RESNET101_AT_8),
        # script/dsrg.sh: 77.5 on scenes (3 seeds), 6 minutes on 2 cores
        "small": SMALL_RETRAIN,
        "small-resnet101": replace(SMALL_RETRAIN, backbone=preset.SMALL_RESNET_DILATED),
        # script/dsrg.sh: 68.1 on msrc-objects (3 seeds), 14 minutes on 1 core
        "photo": preset.photo(RetrainRecipe()),
    }


# -- deeplab: the last stage of other methods -----------------------------------------------------


@dataclass(frozen=True)
class Faint:
    """Classes left out at test."""

    least: float = 0.05
    """A class that nowhere reaches this probability is left out (released infer_seg.py)."""


@dataclass(frozen=True)
class DeepLabRecipe:
    """ResNet-101 at stride 16; crop and solver as in shjo-april/DHR [inferred]; the scales are
    DeepLab's."""

    data: Flat[Data] = Data(size=(512, 512), fit="crop", scale=(0.5, 2.0), mirror=True)
    solver: Flat[Solver] = replace(preset.DHR_SOLVER, epochs=50)  # 50 epochs: ours
    backbone: Flat[Backbone] = ResNet(blocks=(3, 4, 23, 3))
    head: Flat[Head] = DecoderHead(low=48)
    masks: Flat[PseudoMasks] = PseudoMasks()
    faint: Flat[Faint] = Faint()
    prediction: Flat[Prediction] = preset.RECURSEED_TEST


SMALL_DEEPLAB = DeepLabRecipe(
    preset.SMALL_DATA, replace(preset.SMALL_SOLVER, steps=500), preset.SMALL_RESNET,
    preset.SMALL_DECODER, prediction=preset.SMALL_DECODER_TEST,
)  # fmt: skip


class DeepLab(FromMasks, Segment):
    """Cross entropy on masks at their full size.

    Source: core/networks.py of the released RecurSeed code (last convolution 3 x 3 without bias).
    Differs: stride 16 at test too.
    """

    full_size: ClassVar = True
    recipes: ClassVar = {
        # not measured; published for RecurSeed: 74.4 on VOC 2012 val
        "paper": DeepLabRecipe(),
        # script/rsepm.sh: 82.3 on scenes (3 seeds), 6 minutes on 2 cores
        "small": SMALL_DEEPLAB,
        # script/cam.sh: 65.4 on msrc-objects (3 seeds), 10 minutes on 1 core
        "photo": preset.photo(DeepLabRecipe()),
    }

    def join(self, means: Sequence[Tensor], tags: Tensor | None, count: int) -> Tensor:
        """The mean over scales and mirror images; a class that is faint everywhere becomes 0."""
        score = super().join(means, tags, count)
        return score * (score.amax(dim=(2, 3), keepdim=True) >= self.recipe.faint.least)
