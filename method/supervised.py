"""Learning from masks: the true ones, which is the ceiling, or those that another network made."""

from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor, nn

from base import IGNORE, UserError
from datalist.dataset import Images
from method.recipe import Recipe
from method.sec import SEC, FieldOfView, FOVRecipe
from method.stage import Stage
from network.normalise import mean_colour
from network.weight import load_all


class Supervised(FieldOfView):
    """Cross entropy on true masks at the network's own resolution."""

    recipes: ClassVar = {
        name: FOVRecipe(**{field.name: getattr(recipe, field.name) for field in fields(FOVRecipe)})
        for name, recipe in SEC.recipes.items()
    }

    def dataset(self) -> Images:
        recipe = self.recipe
        return Images(
            self.spec,
            recipe.split,
            size=recipe.size,
            mask=self.spec.mask_folder,
            mirror=recipe.mirror,
            seed=recipe.seed,
        )

    def losses(self, batch: dict, step: int) -> dict[str, Tensor]:
        logit = self.forward(batch["image"])
        return {"segment": segment_loss(logit, shrink(batch["mask"], logit.shape[-2:]), self)}

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        """The masks learned from, and the prediction."""
        return {"mask": batch["mask"], "prediction": self.scores(batch["image"]).argmax(1)}


@dataclass(frozen=True)
class PseudoRecipe(Recipe):
    """What stages that learn from a network's masks share."""

    mask: str = ""
    """Folder of masks to learn from, ID.png."""
    start: str = ""
    """Checkpoint of the same network to go on from; empty: from `weights` alone."""
    scale: tuple[float, float] | None = None
    """Range of the factor to the image's own size before the crop; none: its own size."""


class Pseudo(Stage):
    """Cross entropy on the masks in a folder, in crops of the image's own size.

    A subclass builds the network.
    """

    fit = "native"

    def load(self):
        """Start from a checkpoint, or from the recipe's weights; returns the report of keys."""
        if self.recipe.start:
            return load_all(self.network, self.recipe.start)
        return super().load()

    def dataset(self) -> Images:
        recipe = self.recipe
        if not recipe.mask:
            raise UserError(
                "this stage learns from masks: give --mask FOLDER of ID.png, such as test.py and "
                "the chains in script/ make"
            )
        crop = {"mode": "crop", "scale": recipe.scale, "fill": mean_colour(recipe.convention)}
        return Images(
            self.spec,
            recipe.split,
            size=recipe.size,
            **(crop if self.fit == "native" else {}),
            tag=False,
            mask=recipe.mask,
            mirror=recipe.mirror,
            seed=recipe.seed,
            cache=True,
        )

    losses = Supervised.losses
    panels = Supervised.panels

    def scores(self, image: Tensor, tag: Tensor | None = None) -> Tensor:
        return torch.softmax(self.forward(image), dim=1)


def shrink(mask: Tensor, size: tuple[int, int], mode: str = "nearest") -> Tensor:
    """Masks (N, H, W) at another size by taking a cell's first value, or with the mode
    "nearest-exact" its middle one."""
    return nn.functional.interpolate(mask[:, None].float(), size=size, mode=mode)[:, 0].long()


def segment_loss(logit: Tensor, mask: Tensor, stage: Stage) -> Tensor:
    """Cross entropy of logits (N, C, h, w) and masks (N, h, w), mean over valid pixels.

    The mean goes over the processes that `stage` runs in.
    """
    loss = nn.functional.cross_entropy(logit, mask, ignore_index=IGNORE, reduction="sum")
    return loss / stage.average((mask != IGNORE).sum().float()).clamp_min(1)
