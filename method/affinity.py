"""Where objects end, learned from sure pseudo labels, so that seeds can walk up to there.

IRN's boundary network (Ahn et al., CVPR 2019) without its displacement field, which tells
instances apart. Two pixels of one label shall have no boundary between them, two of different
labels shall have one. A random walk then carries seeds everywhere that no boundary parts from
them: `Affinity.walk`, used by script/pseudo.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from base.tensor import resize
from loss.affinity import affinity_terms
from method.recipe import SMALL_BASE, SMALL_RESNET_PLUS, SMOKE_RESNET_PLUS, ResNetRecipe
from method.supervised import Pseudo, PseudoRecipe, shrink
from network.boundary import Boundary
from refine.affinity import random_walk


@dataclass(frozen=True)
class AffinityRecipe(ResNetRecipe, PseudoRecipe):
    """ResNet-50 with frozen weights; sources are jiwoon-ahn/irn where not said."""

    steps: int = 990
    """Optimiser steps: 3 epochs of train_aug."""
    batch: int = 32
    """Images a step."""
    size: tuple[int, int] = (512, 512)
    """Height and width of the crop, pixels."""
    scale: tuple[float, float] | None = (0.5, 1.5)
    """Range of the factor to the image's own size before the crop."""
    mirror: bool = True
    """Flip half of the training images, with their masks."""
    lr: float = 1e-2
    """Base learning rate; ours: the new layers' factor of 10 makes it 0.1, as released."""
    weight_decay: float = 1e-4
    """Weight decay."""
    decay_biases: bool = True
    """Whether biases and normalisation layers decay too."""
    bias_factor: float = 1.0
    """Learning rate of biases over that of weights."""
    momentum: float = 0.0
    """Momentum of SGD. The released optimiser gets the weight decay in its place: 1e-4, next to
    none."""
    policy: Literal["step", "poly", "cosine"] = "poly"
    """How the learning rate falls."""
    norm: bool = False
    """Whether batch normalisation learns its statistics."""
    hidden: int = 32
    """Channels taken from each stage."""
    frozen: bool = True
    """Leave the trunk's weights as they are; from scratch they must learn."""
    radius: int = 10
    """Pairs nearer than this are learned, cells."""
    walk_radius: int = 5
    """The steps of the walk are shorter than this, cells."""
    walk_power: float = 10.0
    """Exponent of the affinities in the walk."""
    walk_doublings: int = 8
    """The walk takes 2 to the power of this many steps."""


SMALL_AFFINITY = {
    **SMALL_BASE,
    **SMALL_RESNET_PLUS,
    "steps": 200,
    "hidden": 16,
    "norm": True,
    "frozen": False,
    "radius": 5,
    # Twenty cells a side, not a hundred: shorter steps, and fewer, or nothing stays apart.
    "walk_radius": 2,
    "walk_power": 20.0,
    "walk_doublings": 4,
}


class Affinity(Pseudo):
    """Boundaries from labels in which unsure pixels are 255."""

    background = False
    recipes: ClassVar = {
        "paper": AffinityRecipe(),
        "small": AffinityRecipe(**SMALL_AFFINITY),
        "smoke": AffinityRecipe(**{**SMALL_AFFINITY, **SMOKE_RESNET_PLUS, "radius": 3}),
    }

    def __init__(self, recipe, spec):
        super().__init__(recipe, spec)
        self.fit = recipe.fit
        self.network = Boundary(recipe.hidden, recipe.frozen, **recipe.trunk())

    def boundary(self, image: Tensor) -> Tensor:
        """Boundary strength in [0, 1], (N, h, w), of RGB images 0..255."""
        return torch.sigmoid(self.forward(image))[:, 0]

    def losses(self, batch: dict, step: int) -> dict[str, Tensor]:
        boundary = self.boundary(batch["image"])
        mask = shrink(batch["mask"], boundary.shape[-2:], "nearest-exact")  # as PIL's, in IRN
        share = {"foreground": 0.25, "background": 0.25, "different": 0.5}
        return {
            kind: share[kind] * loss / self.average(count.float()).clamp_min(1)
            for kind, (loss, count) in affinity_terms(boundary, mask, self.recipe.radius).items()
        }

    @torch.no_grad()
    def walk(self, image: Tensor, seed: Tensor) -> Tensor:
        """Seeds after a random walk.

        Args:
            image: RGB 0..255 at its own size, (3, H, W).
            seed: foreground seeds in [0, 1], (k, h, w), of any size.

        Returns:
            Maps over the maximum of all, float32 (k, H, W).

        Source: step/make_sem_seg_labels.py of IRN: boundary logits averaged over the image and its
        mirror image.
        """
        recipe, size = self.recipe, image.shape[-2:]
        if self.fit == "warp":
            image = resize(image[None].float(), recipe.size)[0]
        plain, mirrored = self.forward(torch.stack((image, image.flip(2))))[:, 0]
        boundary = torch.sigmoid((plain + mirrored.flip(1)) / 2)
        seed = resize(seed[None].to(boundary), boundary.shape)[0]
        walked = random_walk(
            seed, boundary, recipe.walk_radius, recipe.walk_power, recipe.walk_doublings
        )
        walked = resize(walked[None], size)[0]
        return walked / walked.amax().clamp_min(1e-5)

    def scores(self, image: Tensor, tag: Tensor | None = None) -> Tensor:
        """Boundary strength, the same for every class, (N, K, h, w)."""
        return self.boundary(image)[:, None].expand(-1, self.num_classes - 1, -1, -1)

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        """The labels learned from, and where a boundary is likelier than not."""
        return {
            "mask": batch["mask"],
            "boundary": (self.boundary(batch["image"]) > 0.5).long(),
        }
