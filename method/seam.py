"""SEAM: self-supervised equivariant attention (Wang et al., CVPR 2020).

A classifier sees each image at two sizes. Its class activation maps must not depend on the size,
and must agree with what a pixel correlation module makes of the other view's maps. The refined
maps cover more of an object than plain ones: cues for SEC and DSRG, prompts for a segmenter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from base.contract import Context
from base.recipe import Data, Flat, Prediction, Solver
from base.tensor import max_norm, resize
from datalist.dataset import Images
from loss.seam import cross_equivariance_loss, equivariance_loss, rvmin_loss, tag_loss
from method.backbone import (
    SMALL_RESNET,
    SMALL_RESNET38D,
    SMALL_VGG16,
    Backbone,
    ResNet,
    ResNet38d,
)
from method.cam import PHOTO as PHOTO_CAM
from method.cue import with_constant
from method.preset import PHOTO_BACKBONE, PHOTO_DATA, SMALL_SOLVER
from method.smoke import with_smoke
from method.stage import Stage, each_view, mean_score
from network.seam import SEAMNet, with_background

LOCALISER_DATA = Data(
    size=(448, 448), fit="crop", long=(448, 768), jitter=(0.3, 0.3, 0.3, 0.1), mirror=True
)
# hue is part of what tells the classes of `scenes` apart, so nothing is jittered there
SMALL_LOCALISER_DATA = Data(size=(80, 80), fit="crop", long=(80, 100), mirror=True, test_long=96)


@dataclass(frozen=True)
class CorrelationHead:
    """Classifier and pixel correlation module."""

    reduced: tuple[int, int] = (64, 128)
    """Channels that the pixel correlation's two features are reduced to (released)."""
    dropout: float = 0.5
    """Probability of dropping whole channels before the classifier (released)."""
    join: bool = False
    """Classify the features of all stages, normalised, instead of the last one's (ours)."""
    frozen: bool = False
    """The trunk keeps its pretrained weights (ours)."""
    enlarge: float = 1.0
    """Factor to the sides of the image before the network sees it (ours)."""


@dataclass(frozen=True)
class SEAMLosses:
    """SEAM's losses on two views, as released."""

    equivariance: bool = True
    """Learn from two views and refine the maps; without, plain class activation maps."""
    ramp: int = 0
    """Steps over which all losses but the classification's rise to their full weight (ours, for
    training from scratch: maps that know nothing yet agree best where they are empty)."""
    ratio: float = 0.3
    """Size of the second view over that of the first."""
    lowest: float = 0.25
    """Share of the positions whose refined maps are held low (rvmin)."""
    hardest: float = 0.2
    """Share of the values that the cross regularisation looks at (ECR)."""
    decay: float = 1.0
    """Decay of the pooling by rank that makes one logit of a map, on a grid of 41 x 41 (ours); 1:
    the average, as released."""


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

    data: Flat[Data] = LOCALISER_DATA
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


RESNET50 = ResNet(norm=False)
"""IRN's trunk, stride 16."""
SMALL_SEAM = SEAMRecipe(
    data=SMALL_LOCALISER_DATA,
    solver=SMALL_SOLVER,
    # From scratch VGG16 learns in a third of the steps that ResNet-38d needs.
    backbone=replace(SMALL_VGG16, pool=(2, 2, 1, 0, 0), dilation=(1, 1, 1, 2, 4)),
    head=CorrelationHead((16, 32), dropout=0.1),
    seam=SEAMLosses(ramp=200, ratio=0.5),
    cut=CueCut(threshold=0.5, cell=4),  # right in 79 cells of 100 on `scenes`, at 0.3 in 71
)
# As in `cam`, a frozen trunk does not learn what comes along with a class.
PHOTO_SEAM = SEAMRecipe(
    data=PHOTO_DATA,
    solver=PHOTO_CAM.solver,
    backbone=PHOTO_BACKBONE,
    head=CorrelationHead(dropout=0.0, join=True, frozen=True, enlarge=2.0),
    seam=SEAMLosses(ratio=0.5, decay=PHOTO_CAM.maps.decay),
    prediction=replace(PHOTO_CAM.prediction, test_crf=""),
)
SMALL_RESNET50 = replace(SMALL_RESNET, stride=(2, 1, 2, 1, 1), dilation=(1, 1, 2, 4))


class SEAM(Stage):
    """Class activation maps of two views that agree, from tags."""

    can: ClassVar = frozenset({"predict", "cue"})
    recipes: ClassVar = with_smoke(
        {
            "paper": SEAMRecipe(),
            "paper-resnet50": SEAMRecipe(backbone=RESNET50),
            "small": SMALL_SEAM,
            "small-resnet38d": replace(SMALL_SEAM, backbone=SMALL_RESNET38D),
            "small-resnet50": replace(SMALL_SEAM, backbone=SMALL_RESNET50),
            "photo": PHOTO_SEAM,
        }
    )

    def __init__(self, recipe: SEAMRecipe, spec):
        super().__init__(recipe, spec, localiser(recipe, spec.num_classes))

    def dataset(self) -> Images:
        return self.images()

    def losses(self, batch: dict, context: Context) -> dict[str, Tensor]:
        views = two_views(batch["image"], self.recipe.seam, self.network, context)
        return compare_views(views, batch["tag"], self.recipe.seam, context)

    def maps(self, images: Tensor, tags: Tensor | None) -> Tensor:
        """Maps in [0, 1], refined with `equivariance`, zero for untagged classes."""
        cam, refined = self.network(images)
        score = refined[:, -cam.shape[1] :] if self.recipe.seam.equivariance else max_norm(cam)
        return score if tags is None else score * tags[:, :, None, None].to(score)

    def predict(self, images: list[Tensor], tags: Tensor | None, mirror: bool) -> Tensor:
        """Mean of the maps from 0 to 1; the background scores the cut of the cues."""
        mean = mean_score(each_view(lambda image: self.maps(image, tags), images, mirror))
        return with_constant(max_norm(mean), self.recipe.cut.threshold)

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        """The strongest tagged class where its map is above the threshold."""
        return {"map": self.predict([batch["image"]], batch["tag"], False).argmax(1)}

    def cues(self, images: Tensor, tags: Tensor) -> Tensor:
        cut = self.recipe.cut
        grid = [max(1, side // cut.cell) for side in self.recipe.data.size]
        score = resize(max_norm(self.maps(images, tags)), grid)
        highest = score.amax(dim=1, keepdim=True)
        foreground = (score > cut.threshold) & (score == highest)
        return torch.cat((highest < cut.threshold_background, foreground), dim=1)


def localiser(recipe, num_classes: int, background: bool = True) -> SEAMNet:
    """SEAM's network on a recipe's backbone, for as many classes with background.

    `background` as of `SEAMNet`.
    """
    head, trunk = recipe.head, recipe.backbone.trunk()
    trunk.requires_grad_(not head.frozen)
    return SEAMNet(
        trunk, num_classes - 1, head.reduced, head.dropout, background, head.join, head.enlarge
    )


def two_views(
    image: Tensor, seam: SEAMLosses, network: nn.Module, context: Context
) -> list[tuple[Tensor, Tensor]]:
    """Plain maps (N, K, h, w) and refined ones (N, K or K + 1, h, w), at the size of their image,
    of the image and, with `equivariance`, of the image at `ratio`."""
    images = [image]
    if seam.equivariance:
        size = [max(1, int(side * seam.ratio)) for side in image.shape[-2:]]
        images.append(resize(image.float(), size, align_corners=True))
    views = []
    for view in images:
        cam, refined = context.run(network, view)
        size = view.shape[-2:]
        views.append((resize(cam, size, True), resize(refined, size, True)))
    return views


def compare_views(
    views: list[tuple[Tensor, Tensor]], tag: Tensor, seam: SEAMLosses, context: Context
) -> dict[str, Tensor]:
    """SEAM's losses of the maps of one or two views."""
    # The maps were enlarged to the image. Every fourth row and column is enough to sort.
    every = 4 if seam.decay < 1 else 1
    classify = [tag_loss(cam[..., ::every, ::every], tag, seam.decay) for cam, _ in views]
    terms = {"classify": sum(classify) / len(views)}
    if len(views) == 2:
        own = tag[:, :, None, None].to(views[0][0])
        classes, grid = own.shape[1], views[1][0].shape[-2:]
        background = views[0][1].shape[1] > classes
        known = nn.functional.pad(own, (0, 0, 0, 0, 1, 0), value=1.0) if background else own
        first, second = (resize(max_norm(cam), grid, True) * own for cam, _ in views)
        refined = [resize(max_norm(maps), grid, True) * known for _, maps in views]
        low = [rvmin_loss(maps[:, -classes:] * own, seam.lowest) for _, maps in views]
        others = [with_background(cam) if background else cam for cam in (second, first)]
        cross = [
            cross_equivariance_loss(maps, other, seam.hardest, background)
            for maps, other in zip(refined, others)
        ]
        weight = min(1.0, context.step / seam.ramp) if seam.ramp else 1.0
        terms["rvmin"] = weight * sum(low) / 2
        terms["equivariance"] = weight * equivariance_loss(first, second)
        terms["cross"] = weight * sum(cross)
    return {name: context.weight * term for name, term in terms.items()}
