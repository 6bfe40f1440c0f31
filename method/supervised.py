"""The ceiling: the same network trained on the true masks."""

from dataclasses import fields
from typing import ClassVar

import torch
from torch import Tensor, nn

from datalist.dataset import Images
from datalist.spec import IGNORE
from method.sec import SEC, FieldOfView, FOVRecipe


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
        mask = nn.functional.interpolate(batch["mask"][:, None].float(), size=logit.shape[-2:])
        mask = mask[:, 0].long()
        loss = nn.functional.cross_entropy(logit, mask, ignore_index=IGNORE, reduction="sum")
        count = self.average((mask != IGNORE).sum().float())
        return {"segment": loss / count.clamp_min(1)}

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        """The masks learned from, and the prediction."""
        return {"mask": batch["mask"], "prediction": self.scores(batch["image"]).argmax(1)}
