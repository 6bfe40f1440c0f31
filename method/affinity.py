"""Where objects end, learned from sure pseudo labels, so that seeds can walk up to there.

IRN's boundary network (Ahn et al., CVPR 2019) without its displacement field, which separates
instances. Two pixels of one label shall have no boundary between them, two of different labels
shall have one. A random walk then carries seeds to all positions that no boundary separates from
them: `Affinity.walk`, used by `method.pseudo`.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from base.contract import Context, Term
from base.recipe import Data, Flat, Prediction, Solver
from base.tensor import resize, resize_mask
from loss.affinity import affinity_terms
from method import preset
from method.backbone import Backbone, ResNet, Timm
from method.head import refuse
from method.target import FromMasks, PseudoMasks
from network.boundary import Boundary, BoundaryHead
from refine.affinity import random_walk


@dataclass(frozen=True)
class AffinityRecipe:
    """ResNet-50 with frozen weights; sources are jiwoon-ahn/irn where not said."""

    data: Flat[Data] = Data(size=(512, 512), fit="crop", scale=(0.5, 1.5), mirror=True)
    # The new layers' factor of 10 makes the rate 0.1, as released. The released optimiser gets the
    # weight decay in the place of the momentum: 1e-4, next to none.
    solver: Flat[Solver] = Solver(
        steps=None, epochs=3, batch=32, lr=1e-2, bias_factor=1.0, momentum=0.0, weight_decay=1e-4,
        decay_all=True, policy="poly",
    )  # fmt: skip
    backbone: Flat[Backbone] = preset.IRN_RESNET50
    head: Flat[BoundaryHead] = BoundaryHead()
    masks: Flat[PseudoMasks] = PseudoMasks()
    prediction: Flat[Prediction] = Prediction()


SMALL = AffinityRecipe(
    data=preset.SMALL_DATA,
    solver=replace(preset.SMALL_SOLVER, steps=200),
    backbone=preset.SMALL_RESNET,
    # A side has 20 cells, not 128. On training masks of `scenes` this walk is 18 points better than
    # the published (5, 10, 8), and 1.4 better than (2, 10, 5), its scaled version. More training
    # steps lower the masks: the network then learns the errors of its labels.
    head=BoundaryHead(
        hidden=16, frozen=False, radius=5, walk_radius=2, walk_power=20.0, walk_doublings=4
    ),
)
# Four times the pixels of the other networks: the grid then has about as many cells as that of IRN
# on VOC (500 x 375 pixels at stride 4), and IRN's radii and steps reach as far.
PHOTO = preset.photo(AffinityRecipe(), area=153600, epochs=3, prediction=Prediction())


class Affinity(FromMasks):
    """Boundaries from labels in which unsure pixels are 255."""

    can: ClassVar = frozenset()
    recipes: ClassVar = {
        # not measured
        "paper": AffinityRecipe(),
        # script/rsepm.sh: masks of 81.6 on the training images of scenes (3 seeds); 2 cores
        "small": SMALL,
        # script/rsepm.sh: masks of 79.7 on those of msrc-objects, 5 minutes on 1 core
        "photo": PHOTO,
    }

    def __init__(self, recipe: AffinityRecipe, spec):
        if not isinstance(recipe.backbone, ResNet | Timm):
            raise refuse(recipe.backbone, "affinity")
        super().__init__(recipe, spec, Boundary(recipe.backbone.trunk(), recipe.head))

    def terms(self, batch: dict, context: Context) -> dict[str, Term]:
        boundary = torch.sigmoid(context.run(self.network, batch["image"]))[:, 0]
        mask = resize_mask(batch["mask"], boundary.shape[-2:], "nearest-exact")  # PIL's, in IRN
        share = {"foreground": 0.25, "background": 0.25, "different": 0.5}
        terms = affinity_terms(boundary, mask, self.recipe.head.radius)
        return {name: (share[name] * loss, count) for name, (loss, count) in terms.items()}

    @torch.no_grad()
    def walk(self, image: Tensor, seed: Tensor) -> Tensor:
        """Seeds after a random walk, over the maximum of all, float32 (k, H, W).

        Args:
            image: RGB 0..255 at its own size, (3, H, W).
            seed: foreground seeds in [0, 1], (k, h, w), of any size.

        Source: step/make_sem_seg_labels.py of IRN: boundary logits averaged over the image and its
        mirror image.
        """
        head, size = self.recipe.head, tuple(image.shape[-2:])
        image = resize(image[None].float(), self.recipe.data.input_size(size))
        plain, mirrored = self.network(torch.cat((image, image.flip(3))))[:, 0]
        boundary = torch.sigmoid((plain + mirrored.flip(1)) / 2)
        seed = resize(seed[None].to(boundary), boundary.shape)[0]
        walked = random_walk(seed, boundary, head.walk_radius, head.walk_power, head.walk_doublings)
        walked = resize(walked[None], size)[0]
        return walked / walked.amax().clamp_min(1e-5)

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        """The labels learned from, and where a boundary is likelier than not."""
        boundary = self.network(batch["image"])[:, 0] > 0
        return {"mask": batch["mask"], "boundary": boundary.long()}
