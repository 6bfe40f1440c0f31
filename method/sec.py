"""SEC: seed, expand and constrain (Kolesnikov and Lampert, ECCV 2016).

A DeepLab-LargeFOV network learns from localization cues under three losses. The seeding loss
follows the cues. The expansion loss asks each tagged class for a plausible share of the image and
absent classes for none. The constrain-to-boundary loss pulls the scores to what a dense CRF makes
of them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from base.contract import Context, Term
from base.recipe import Data, Flat, Prediction, Solver
from datalist.answer import SHARES, read_answers
from datalist.dataset import Images
from datalist.shape import read_shapes
from loss import constrain_loss, decay_for, expand_loss, floor_softmax, seed_loss
from method import preset
from method.backbone import VGG16, Backbone
from method.head import Head, LargeFOVHead
from method.refinement import Refinement, TrainCRF
from method.stage import SoftmaxMean
from method.target import TagSource, class_map, cue_images, cues_of
from refine.contrast import SPREAD


@dataclass(frozen=True)
class SECLosses:
    """The three losses as released."""

    cue: str = ""
    """Cue file (.npz, or the official localization_cues.pickle.gz), or a folder of cues as masks,
    ID.png with 255 where there is no cue."""
    tags_from: TagSource = "auto"
    """Image-level tags: of the cues (the classes that have some) or of the data set; auto: of the
    cues where they are a released pickle, as in the released code."""
    floor: float = 1e-4
    """Added to each probability before the losses (min_prob of the released layers)."""
    decay_foreground: float = 0.996
    """Rank-pooling decay of tagged classes (paper), on a grid of `decay_grid`."""
    decay_background: float = 0.999
    """Rank-pooling decay of the background (paper), on a grid of `decay_grid`."""
    decay_grid: tuple[int, int] = (41, 41)
    """Grid of the two decays; on other grids the share of pixels with half the weight is kept."""
    seed_weight: float = 1.0
    """Weight of the seeding loss (paper); 0 leaves it out."""
    expand_weight: float = 1.0
    """Weight of the expansion loss (paper); 0 leaves it out."""
    constrain_weight: float = 1.0
    """Weight of the constrain-to-boundary loss (paper); 0 leaves it out."""

    # -- ours: not in the publication ------------------------------------------------------------
    answers: str = ""
    """answers.csv of the page of questions: the sizes that it names give their classes decays of
    their own, or bound those of `shape` (ours)."""
    shape: str = ""
    """shape.json of pseudo.py, which measured the classes' shares of their images: these give the
    classes decays of their own (ours). A size in `answers` says between which shares they lie."""


@dataclass(frozen=True)
class SECRecipe:
    """SEC on VGG16; defaults are those of the released solver.prototxt and train.prototxt."""

    data: Flat[Data] = Data()
    solver: Flat[Solver] = Solver()
    backbone: Flat[Backbone] = VGG16()
    head: Flat[Head] = LargeFOVHead()
    sec: Flat[SECLosses] = SECLosses()
    train_crf: Flat[TrainCRF] = TrainCRF()
    prediction: Flat[Prediction] = preset.SEC_TEST


MXNET = SECRecipe(preset.MXNET_DATA, head=LargeFOVHead(dropout=0.0), prediction=preset.MXNET_TEST)
"""ascust/SEC-MXNet on VGG16."""
SMALL = SECRecipe(*preset.SMALL_ON_VGG16, head=preset.SMALL_FOV, prediction=preset.SMALL_SEC_TEST)


HALF_WEIGHT = {"speck": 0.003, "small": 0.04, "half": 0.14, "most": 0.35}
"""Share of the positions that carries half of the weight, for each answer about a class's size:
half of the share that a usual object of this size covers (ours; 0.996 on 41 x 41 is 0.10)."""


def half_weight_decays(half: Mapping[int, float], num_classes: int, sec: SECLosses) -> Tensor:
    """Rank-pooling decay of each class, (num_classes - 1,).

    `half`: share of the positions that carries half of the weight, by class; others have the decay
    of `sec`.
    """
    decay = torch.full((num_classes - 1,), sec.decay_foreground, dtype=torch.float64)
    for index, share in half.items():
        decay[index - 1] = 0.5 ** (1 / (share * math.prod(sec.decay_grid)))
    return decay


class SEC(SoftmaxMean):
    """DeepLab-LargeFOV under the three losses."""

    pools = True

    recipes: ClassVar = {
        # not measured; published: 50.7 on VOC 2012 val
        "paper": SECRecipe(),
        # not measured; published: 50.2, and 55.3 on ResNet-50
        "mxnet": MXNET,
        "paper-resnet50": replace(
            MXNET, backbone=preset.RESNET50_AT_8, head=LargeFOVHead(hidden=512)
        ),
        # script/sec.sh: 71.9 on scenes (3 seeds), 3 minutes on 2 cores
        "small": SMALL,
        "small-resnet50": replace(SMALL, backbone=preset.SMALL_RESNET_DILATED),
        # script/sec.sh: 72.1 on msrc-objects (3 seeds), 5 minutes on 1 core
        "photo": preset.photo(SECRecipe(), frozen_stride=16, crf_scale=None, crf_spread=SPREAD),
    }

    def __init__(self, recipe: SECRecipe, spec):
        super().__init__(recipe, spec)
        self.refinement = Refinement(recipe.train_crf)
        self.decay: float | Tensor = recipe.sec.decay_foreground

    def dataset(self) -> Images:
        sec, half = self.recipe.sec, {}
        if sec.shape:
            shapes = read_shapes(Path(sec.shape), self.spec.classes)
            half = {index: shape.share / 2 for index, shape in shapes.items()}
        if sec.answers:
            sizes = read_answers(Path(sec.answers), self.spec.classes).sizes
            for index, size in sizes.items():
                low, high = SHARES[size]
                share = 2 * half.get(index, HALF_WEIGHT[size])
                half[index] = min(max(share, low), high) / 2
        if half:
            self.decay = half_weight_decays(half, self.num_classes, sec)
        return cue_images(self, self.recipe.sec.cue, self.recipe.sec.tags_from)

    def terms(self, batch: dict, context: Context) -> dict[str, Term]:
        sec = self.recipe.sec
        logit = context.run(self.network, batch["image"])
        if sec.constrain_weight:
            marginals = self.refinement.start(batch["image"], logit, context)
        score = floor_softmax(logit, sec.floor)
        terms = {}
        if sec.seed_weight:
            terms["seed"] = sec.seed_weight * seed_loss(score, cues_of(batch, logit))
        if sec.expand_weight:
            reference, positions = math.prod(sec.decay_grid), math.prod(logit.shape[-2:])
            foreground = decay_for(self.decay, reference, positions)
            background = decay_for(sec.decay_background, reference, positions)
            expand = expand_loss(score, batch["tag"], foreground, background, batch.get("bag"))
            terms["expand"] = sec.expand_weight * expand
        if sec.constrain_weight:
            constrain = constrain_loss(score, marginals(), sec.floor)
            terms["constrain"] = sec.constrain_weight * constrain
        return terms

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        logit = self.network(batch["image"])
        return {"prediction": logit.argmax(1), "cue": class_map(cues_of(batch, logit))}
