"""Plain class activation maps: system zero, which every other system must beat.

A classifier with a 1 x 1 convolution and the average (Zhou et al., CVPR 2016) learns the tags. Its
activation maps over several scales, a background score and the dense CRF make masks of the
training images (`method/pseudo.py`), and a segmentation network learns from these (`deeplab`).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from base.contract import Context, Term
from base.recipe import Data, Flat, Prediction, Solver
from base.tensor import over_peak
from base.thread import NETWORKS, network_pool
from datalist.bag import BAGS_FILE
from loss import bag_tag_loss, rank_average
from method.backbone import Backbone, ResNet, Timm
from method.head import refuse
from method.kept import kept_features, network_checksum
from method.preset import (
    IRN_RESNET50,
    PHOTO_CLASSIFIER,
    SMALL_DATA,
    SMALL_RESNET,
    SMALL_SOLVER,
    photo,
)
from method.stage import Stage, of_tags
from network.trunk import ClassMaps, average


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Classifier, and the background score beside its maps."""

    decay: float = 1.0
    """Decay of the rank pooling that makes one logit of a map, on SEC's grid of 41 x 41; 1: the
    average, as published."""
    gamma: float = 2.0
    """The background scores (1 - the best class)^gamma (as in the released RecurSeed code)."""

    # -- ours: not in the publication ------------------------------------------------------------
    dropout: float = 0.2
    """Probability of dropping whole channels of the features (ours)."""
    join: bool = False
    """Classify the features of all stages, normalised, instead of the last one's (ours)."""
    frozen: bool = False
    """The trunk keeps its pretrained weights, and only the classifier learns (ours)."""


@dataclass(frozen=True)
class CAMRecipe:
    """IRN's classifier on ResNet-50 (jiwoon-ahn/irn, step/train_cam.py)."""

    data: Flat[Data] = Data(size=(512, 512), fit="crop", long=(320, 640), mirror=True)
    solver: Flat[Solver] = Solver(
        steps=None, epochs=5, batch=16, lr=0.01, bias_factor=1.0, momentum=0.0, weight_decay=1e-4,
        decay_all=True, policy="poly",
    )  # fmt: skip
    backbone: Flat[Backbone] = IRN_RESNET50
    maps: Flat[Maps] = Maps()
    prediction: Flat[Prediction] = Prediction((1.0, 0.5, 1.5, 2.0), True, "sec-test")


SMALL_TEST = Prediction((1.0, 1.5), True, "sec-test", 4.0)
SMALL = CAMRecipe(SMALL_DATA, SMALL_SOLVER, SMALL_RESNET, Maps(dropout=0.1), SMALL_TEST)
PHOTO = photo(
    CAMRecipe(),
    area=153600,
    window=(0.7, 1.0),
    variants=2,
    prediction=Prediction((1.0, 1.5), False, "sec-test", None),
    **PHOTO_CLASSIFIER | {"lr": 1e-2, "weight_decay": 1.0},
)
"""Four times the pixels of the segmentation networks; a CRF of wider smoothing. The trunk sees each
image twice, whole and as one random part, and not in every epoch. With whole images alone the sure
masks of steel-defects are worse. A strong decay keeps the classifier from learning the inputs by
heart."""


class CAM(Stage):
    """Class activation maps of a classifier without hidden layers."""

    pools = True
    first_view: ClassVar = (1,)  # the logits: the classifier learned images of this scale

    recipes: ClassVar = {
        # not measured
        "paper": CAMRecipe(),
        # script/cam.sh: maps of 58.0 on the training images of scenes, before the last changes
        "small": SMALL,
        # script/cam.sh: maps of 70.2 on those of msrc-objects (seed 0)
        "photo": PHOTO,
    }

    def __init__(self, recipe: CAMRecipe, spec):
        if not isinstance(recipe.backbone, ResNet | Timm):
            raise refuse(recipe.backbone, "cam")
        maps, trunk = recipe.maps, recipe.backbone.trunk()
        if maps.frozen:
            trunk.requires_grad_(False)
        pool = average if maps.decay == 1 else partial(rank_average, decay=maps.decay)
        super().__init__(
            recipe, spec, ClassMaps(trunk, spec.num_classes - 1, maps.dropout, maps.join, pool)
        )
        self.constant = maps.frozen and not recipe.backbone.norm and recipe.data.variants > 0
        """Whether an image has the same features in every step."""
        self.fixed: tuple[bytes, ThreadPoolExecutor | None] | None = None
        """Checksum of the network of features, and threads for it."""
        self.bags = (spec.root / BAGS_FILE).is_file()

    def terms(self, batch: dict, context: Context) -> dict[str, Term]:
        image = batch["image"]
        if self.constant:
            image = self.features(image, context, keep=True)
        logit = context.run(self.network, image)
        if "bag" in batch:
            return {"classify": bag_tag_loss(logit, batch["tag"], batch["bag"])}
        return {"classify": nn.functional.multilabel_soft_margin_loss(logit, batch["tag"])}

    def features(self, image: Tensor, context: Context | None = None, keep: bool = False) -> Tensor:
        """Features (N, D, h, w) of images (N, C, H, W), by `ClassMaps.features`.

        Where they cannot change, they come from files of earlier passes, which training writes
        (`keep`); images are brought to grey levels and features to float16 for it.
        """
        if not self.constant:
            return self.network.features(image)
        image = image.float().round()
        if torch.compiler.is_compiling():  # an exported program has no files
            return self.network.features(image).half().float()
        context = replace(context or Context(), replica=None)
        trunk = self.network.trunk.eval()  # the loop sets the training mode
        if self.fixed is None:
            device = image.device.type
            threads = min(NETWORKS, torch.get_num_threads())
            pool = network_pool(threads) if device == "cpu" else None
            settings = self.recipe.backbone, context.bfloat16, device
            self.fixed = network_checksum(trunk, *settings), pool
        source, pool = self.fixed
        folder = self.folder / "features" if self.folder is not None else None
        run, pool = partial(context.run, self.network.features), pool if len(image) > 1 else None
        return kept_features(image.to(torch.uint8), run, source, folder, keep, pool)

    def view(self, image: Tensor) -> tuple[Tensor, ...]:
        """Positive activation maps (N, K, h, w) and logits (N, K)."""
        cam = self.network.cam(self.features(image))
        return cam.clamp_min(0), self.network.pool(cam)

    def join(self, means: Sequence[Tensor], tags: Tensor | None, count: int) -> Tensor:
        """Mean of the positive maps over its maximum; the background (1 - the best class)^gamma.

        Without tags, the classes are those that the classifier finds likelier than not in the first
        view; where the tags are those of a bag of tiles, those among them.
        """
        cam, logit = means
        if tags is None:
            tags = logit > 0
        elif self.bags:
            tags = (logit > 0) & (tags > 0)
        seed = over_peak(of_tags(cam, tags))
        background = (1 - seed.amax(dim=1, keepdim=True)) ** self.recipe.maps.gamma
        return torch.cat((background, seed), dim=1)

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        """The maps' labels, with the tags known."""
        return {"map": self.predict([batch["image"]], batch["tag"], False).argmax(1)}
