"""DSRG: deep seeded region growing (Huang et al., CVPR 2018).

Step 1: the localization cues are seeds. At every step they grow, from where they began, to the
connected positions that the network's CRF-refined scores are sure of; the balanced seeding loss
learns the grown seeds, the boundary loss follows the CRF. Step 2 is `method.segment.Retrain`.

The published background cues come from the saliency method DRFI, which is not available. Here they
come from our own background cue network, or from any folder of saliency maps
(`python -m datalist.saliency`).
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from base.contract import Context, Term
from base.recipe import Data, Flat, Prediction, Solver
from datalist.dataset import Images
from loss import balanced_seed_loss, constrain_loss, floor_softmax
from method import preset
from method.backbone import VGG16, Backbone
from method.head import Head, PyramidHead
from method.refinement import Refinement, TrainCRF
from method.stage import SoftmaxOfSum
from method.target import TagSource, class_map, cue_images, cues_of
from refine import grow_seeds
from refine.contrast import SPREAD


@dataclass(frozen=True)
class DSRGLosses:
    """Growing and its two losses, as released."""

    cue: str = ""
    """Cue file of the seeds (.npz, or a released pickle), or a folder of them as masks, ID.png with
    255 where there is no seed."""
    tags_from: TagSource = "auto"
    """Image-level tags: of the cues (the classes that have some) or of the data set; auto: of the
    cues where they are a released pickle, as in the released code."""
    floor: float = 1e-4
    """Added to each probability, and smallest CRF marginal (min_prob of the released layers)."""
    grow: bool = True
    """Grow the seeds at each step; without, the cues stay as they are (the paper's baseline)."""
    threshold_foreground: float = 0.85
    """Growing: a tagged class must score above this (released layer)."""
    threshold_background: float = 0.99
    """Growing: the background must score above this (released layer)."""
    clip: tuple[float, float] = (0.05, 20.0)
    """Bounds of the boundary loss's ratio of marginal to score (released layer)."""


@dataclass(frozen=True)
class DSRGRecipe:
    """Step 1 as released: solver-s.prototxt and train-s.prototxt."""

    data: Flat[Data] = Data(mirror=True)
    solver: Flat[Solver] = Solver(batch=20, lr=5e-4, decay_every=1000, decay_factor=0.33)
    backbone: Flat[Backbone] = VGG16()
    head: Flat[Head] = PyramidHead()
    dsrg: Flat[DSRGLosses] = DSRGLosses()
    train_crf: Flat[TrainCRF] = TrainCRF(crf_input="score")
    prediction: Flat[Prediction] = preset.DSRG_TEST


SMALL = DSRGRecipe(
    *preset.SMALL_ON_VGG16, head=preset.SMALL_PYRAMID, prediction=preset.SMALL_DSRG_TEST
)


class DSRG(SoftmaxOfSum):
    """Step 1: a four-branch DeepLab under seeds that grow."""

    pools = True  # seeds alone teach: a tag says which of them may grow

    recipes: ClassVar = {
        # not measured
        "paper": DSRGRecipe(),
        "paper-resnet101": DSRGRecipe(backbone=preset.RESNET101_AT_8),
        # script/dsrg.sh, before step 2: 75.7 on scenes (3 seeds), 4 minutes on 2 cores
        "small": SMALL,
        "small-resnet101": replace(SMALL, backbone=preset.SMALL_RESNET_DILATED),
        # script/dsrg.sh, before step 2: 70.0 on msrc-objects (3 seeds), 11 minutes on 1 core
        "photo": preset.photo(DSRGRecipe(), crf_scale=None, crf_spread=SPREAD),
    }

    def __init__(self, recipe: DSRGRecipe, spec):
        super().__init__(recipe, spec)
        self.refinement = Refinement(recipe.train_crf)

    def dataset(self) -> Images:
        return cue_images(self, self.recipe.dsrg.cue, self.recipe.dsrg.tags_from)

    def targets(self, batch: dict, score: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """CRF marginals of floored scores, floored and normalised, and the seeds of a batch, grown
        by them, bool; both (N, C, h, w)."""
        dsrg = self.recipe.dsrg
        logit = score.detach().log()  # the floor stays in
        with context.timer("crf"):
            marginal = self.refinement.marginals(batch["image"], logit).clamp_min(dsrg.floor)
        marginal = marginal / marginal.sum(dim=1, keepdim=True)
        seed = cues_of(batch, score)
        if dsrg.grow:
            seed = grow_seeds(
                marginal, seed, batch["tag"], dsrg.threshold_foreground, dsrg.threshold_background
            )
        return marginal, seed

    def terms(self, batch: dict, context: Context) -> dict[str, Term]:
        dsrg = self.recipe.dsrg
        score = floor_softmax(context.run(self.network, batch["image"]), dsrg.floor)
        marginal, seed = self.targets(batch, score, context)
        return {
            "seed": balanced_seed_loss(score, seed),
            "constrain": constrain_loss(score, marginal, 0, dsrg.clip),
        }

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        """The seeds as given, as grown, and the prediction."""
        score = floor_softmax(self.network(batch["image"]), self.recipe.dsrg.floor)
        _, grown = self.targets(batch, score, Context())
        return {
            "seed": class_map(cues_of(batch, score)),
            "grown seed": class_map(grown),
            "prediction": score.argmax(1),
        }
