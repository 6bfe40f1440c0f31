"""SEAM: self-supervised equivariant attention (Wang et al., CVPR 2020).

A classifier sees each image at two sizes. Its class activation maps must not depend on the size,
and must agree with what a pixel correlation module makes of the other view's maps. The refined
maps cover more of an object than plain ones: cues for SEC and DSRG, prompts for a segmenter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from base.contract import Context, Term
from base.recipe import Data, Flat, Prediction, Solver, change
from base.tensor import max_norm, resize
from method import localiser, preset
from method.backbone import Backbone, ResNet38d
from method.localiser import CorrelationHead, SEAMLosses
from method.stage import Stage, of_tags, with_constant


@dataclass(frozen=True)
class CueCut:
    """Cues from maps: IRN's thresholds [inferred]."""

    threshold: float = 0.3
    """Cells above this share of their map's maximum are cues."""
    threshold_background: float = 0.05
    """Cells where no map reaches this are background cues."""
    cell: int = 8
    """Side of a cue's cell, pixels of `size`: all images share one grid."""


@dataclass(frozen=True)
class SEAMRecipe:
    """SEAM as released: train_SEAM.py and its command line."""

    data: Flat[Data] = localiser.DATA
    # The released optimiser gets the weight decay in the place of the momentum:
    # 5e-4, next to none.
    solver: Flat[Solver] = Solver(
        steps=None, epochs=8, batch=8, lr=0.01, momentum=0.0, policy="poly"
    )
    backbone: Flat[Backbone] = ResNet38d()
    head: Flat[CorrelationHead] = CorrelationHead()
    seam: Flat[SEAMLosses] = SEAMLosses()
    cut: Flat[CueCut] = CueCut()
    prediction: Flat[Prediction] = Prediction()


SMALL = SEAMRecipe(
    localiser.SMALL_DATA, preset.SMALL_SOLVER, localiser.SMALL_BACKBONE,
    localiser.SMALL_CORRELATION, localiser.SMALL_LOSSES,
    CueCut(threshold=0.5, cell=4),  # right in 79 cells of 100 on `scenes`, at 0.3 in 71
)  # fmt: skip
PHOTO = preset.photo(
    SEAMRecipe(),
    **preset.PHOTO_CLASSIFIER | {"enlarge": 2.0, "ratio": 0.5},
    prediction=Prediction((1.0, 1.5), test_crf_scale=None),
)


class SEAM(Stage):
    """Class activation maps of two views that agree, from tags."""

    can: ClassVar = frozenset({"predict", "cue"})
    recipes: ClassVar = {
        # not measured
        "paper": SEAMRecipe(),
        "paper-resnet50": SEAMRecipe(backbone=preset.IRN_RESNET50),
        # train.py seam --dataset scenes: maps of 57.1 on the training images (3 seeds); 2 cores
        "small": SMALL,
        "small-resnet38d": replace(SMALL, backbone=preset.SMALL_RESNET38D),
        "small-resnet50": replace(SMALL, backbone=localiser.SMALL_RESNET50),
        # script/locate.sh: maps of 67.4 on 82 training images of camvid-third; 1 core
        "photo": PHOTO,
        # The same on masks of other classes: as long whatever the number of their images.
        "photo-external": change(PHOTO, steps=200, epochs=None),
    }

    def __init__(self, recipe: SEAMRecipe, spec):
        super().__init__(recipe, spec, localiser.build(recipe, spec.num_classes))

    def terms(self, batch: dict, context: Context) -> dict[str, Term]:
        views = localiser.two_views(batch["image"], self.recipe.seam, self.network, context)
        return localiser.compare_views(views, batch["tag"], self.recipe.seam, context)

    def view(self, image: Tensor) -> tuple[Tensor, ...]:
        """Maps in [0, 1], refined with `equivariance`."""
        cam, refined = self.network(image)
        return (refined[:, -cam.shape[1] :] if self.recipe.seam.equivariance else max_norm(cam),)

    def join(self, means: Sequence[Tensor], tags: Tensor | None, count: int) -> Tensor:
        """Mean of the maps from 0 to 1; the background scores the cut of the cues."""
        return with_constant(max_norm(of_tags(means[0], tags)), self.recipe.cut.threshold)

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        """The strongest tagged class where its map is above the threshold."""
        return {"map": self.predict([batch["image"]], batch["tag"], False).argmax(1)}

    def cues(self, images: Tensor, tags: Tensor) -> Tensor:
        cut = self.recipe.cut
        grid = [max(1, side // cut.cell) for side in self.recipe.data.size]
        score = resize(max_norm(of_tags(self.view(images)[0], tags)), grid)
        highest = score.amax(dim=1, keepdim=True)
        foreground = (score > cut.threshold) & (score == highest)
        return torch.cat((highest < cut.threshold_background, foreground), dim=1)
