"""What segmentation networks learn from: localization cues, or masks of another network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from base import IGNORE, UserError
from base.tensor import resize_mask
from datalist.cue import CueFile
from datalist.dataset import Images
from method.backbone import Backbone
from method.stage import Stage
from network.weight import Report, load_all

TagSource = Literal["auto", "cue", "dataset"]

# -- cues --------------------------------------------------------------------------------------


def cue_images(stage: Stage, cue: str, tags_from: TagSource) -> Images:
    """Training images with their cues, of a file or a folder of masks.

    `tags_from` "cue" takes the classes that have cues as the image's tags, "dataset" those of the
    data set; "auto" is "cue" for a released pickle. VOC's XML has 987 tags of difficult objects
    that the released cues lack, and no cue supports them.

    Raises:
        UserError: for no cues, or a cue file under a recipe that cuts images.
    """
    if not cue:
        raise UserError("this stage learns from cues: give --cue FILE (script/cue.sh makes one)")
    fit = stage.recipe.data.fit
    if fit != "warp":
        if Path(cue).is_dir():
            return stage.images(mask=cue)
        raise UserError(
            f"{cue} holds cues of whole images, and --fit {fit} cuts them: give --fit warp, or a "
            "folder of cues as masks"
        )
    with torch.no_grad():
        image = torch.zeros(1, stage.spec.bands.channels, *stage.recipe.data.size)
        grid = tuple(stage.network.eval()(image).shape[-2:])
        stage.network.train()
    cues = CueFile.open(cue)
    images = stage.images(cue=cues, grid=grid)
    released = Path(cue).is_file() and Path(cue).suffix != ".npz"
    if images.tags and (tags_from == "cue" or (tags_from == "auto" and released)):
        own = {name: tuple(k for k in cues.classes(name) if k) for name in images.ids}
        other = sum(set(own[name]) != set(images.tags[name]) for name in images.ids)
        print(f"tags are the classes with cues; on {other} images the data set has others")
        images.tags, images.bags = own, None
    return images


def cues_of(batch: dict, logit: Tensor) -> Tensor:
    """Cues of a batch on the grid of its logits, bool (N, C, h, w)."""
    if "cue" in batch:
        return batch["cue"]
    mask = resize_mask(batch["mask"], logit.shape[-2:])
    return mask[:, None] == torch.arange(logit.shape[1], device=mask.device).view(1, -1, 1, 1)


def class_map(seed: Tensor) -> Tensor:
    """Class of each seed of (N, C, h, w), of several the highest; `IGNORE` elsewhere; (N, h, w)."""
    index = torch.arange(seed.shape[1], device=seed.device).view(1, -1, 1, 1)
    highest = torch.where(seed, index, -1).amax(dim=1)
    return torch.where(highest < 0, IGNORE, highest)


# -- masks -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PseudoMasks:
    """Masks of another network, and where to start."""

    mask: str = ""
    """Folder of masks to learn from, ID.png."""
    start: str = ""
    """Checkpoint of the same network to start from; empty: the backbone's weights alone."""


def begin(backbone: Backbone, network: nn.Module, path: str, part: str = "") -> Report:
    """Load a checkpoint's part into a network, or without one the backbone's weights."""
    return load_all(network, path, part) if path else backbone.load(network)


class FromMasks(Stage):
    """A stage that learns from the masks of another network; `recipe.masks` is `PseudoMasks`."""

    def load(self) -> Report | str:
        """Start from a checkpoint of the same network, or else from the backbone's weights."""
        return begin(self.recipe.backbone, self.network, self.recipe.masks.start)

    def dataset(self) -> Images:
        """Training images with the masks of a folder."""
        if not self.recipe.masks.mask:
            raise UserError(
                "this stage learns from masks: give --mask FOLDER of ID.png, such as test.py and "
                "the chains in script/ make"
            )
        return self.images(tag=False, mask=self.recipe.masks.mask)


def segment_loss(logit: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy of logits (N, C, h, w) and masks (N, h, w): its sum, and the valid pixels."""
    loss = nn.functional.cross_entropy(logit, mask, ignore_index=IGNORE, reduction="sum")
    return loss, (mask != IGNORE).sum()


def count_classes(mask: Tensor, num_classes: int) -> Tensor:
    """Pixels of each class in masks (N, H, W), (N, C); ignored ones are of none."""
    index = torch.where(mask == IGNORE, num_classes, mask).flatten(1)
    count = torch.zeros(len(mask), num_classes + 1, device=mask.device)
    return count.scatter_add_(1, index, torch.ones_like(index, dtype=torch.float32))[:, :-1]


def shown_classes(mask: Tensor, num_classes: int) -> Tensor:
    """Which foreground classes masks show, (N, K) of 0 and 1, of masks (N, H, W)."""
    return (count_classes(mask, num_classes)[:, 1:] > 0).float()


def others_share(mask: Tensor, num_classes: int) -> Tensor:
    """For each foreground class, the share of masks (N, H, W) that is of another class or of the
    background, and not ignored; (N, K) in [0, 1]."""
    count = count_classes(mask, num_classes)
    return (count.sum(1, keepdim=True) - count[:, 1:]) / mask[0].numel()


# -- samples -------------------------------------------------------------------------------------


def cue_mask(batch: dict, size: tuple[int, int]) -> Tensor | None:
    """Cues of a batch on a grid of `size`, class indices (N, *size); None without cues."""
    return resize_mask(batch["mask"], size, "nearest-exact") if "mask" in batch else None


def inside_box(batch: dict, size: tuple[int, int]) -> Tensor:
    """Where the pixels of a grid of `size` over the samples are image, bool (N, 1, *size).

    A sample without a `box` (top, left, bottom and right in pixels) is image all over.
    """
    image = batch["image"]
    if "box" not in batch:
        return torch.ones(len(image), 1, *size, dtype=torch.bool, device=image.device)
    top, left, bottom, right = batch["box"][:, :, None].unbind(1)
    sides = zip(size, image.shape[-2:])
    row, column = ((torch.arange(n, device=image.device) + 0.5) * (side / n) for n, side in sides)
    rows = (row >= top) & (row < bottom)
    columns = (column >= left) & (column < right)
    return (rows[:, :, None] & columns[:, None, :])[:, None]
