"""RecurSeed and EdgePredictMix (Jo, Yu and Kim, arXiv 2204.06754).

One network classifies the tags and segments. Its activation maps are refined (by the correlations
of its own features, then by colour), and the refined maps teach the maps they came from, so that
the next ones start higher: RecurSeed. Where they are sure they also teach the decoder. What the
decoder itself is sure of decides which part of one image is pasted into another, and the network
learns from the mixture: EdgePredictMix.

The authors released weights and inference, not the training: what is marked [inferred] follows
their diagrams, names and later code.

On photographs the maps spread over what always comes with a class: the sky around aeroplanes, the
road below cars. Correlation and colour cannot tell them apart, and the recursion adds to it. With
cues (ours) the maps are known in places, and there the recursion cannot change them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from base import IGNORE, UserError
from base.contract import Context, Term
from base.recipe import Data, Flat, Prediction, Solver
from base.tensor import over_peak, resize, resize_mask
from datalist.dataset import Images
from method import preset
from method.backbone import Backbone, ResNet, Timm
from method.head import DecoderHead, refuse
from method.stage import SEGMENTS, Stage, of_tags
from method.target import cue_mask, inside_box, segment_loss, shown_classes
from network.rsepm import RSEPM, Averaged
from refine import (
    best_labels,
    certain_labels,
    class_region,
    edge_labels,
    object_region,
    pamr,
    paste,
    rectangle_region,
    self_correlation_map,
)


@dataclass(frozen=True)
class Average:
    """Moving average of the weights, which predicts."""

    average: float = 0.999
    """Decay of the average (DHR; 0.9999 released) [inferred]."""
    average_ramp: float = 2000.0
    """Steps over which that decay rises (released)."""


@dataclass(frozen=True)
class Recursion:
    """RecurSeed: maps that teach the maps they came from, and the decoder."""

    recursion_epoch: int = 5
    """Epoch from which the refined maps teach maps and decoder (tag)."""
    recursion_weight: float = 1.0
    """Weight of the recursion loss on the maps; 0 leaves it out (tag)."""
    segment_weight: float = 1.0
    """Weight of the decoder's cross entropy (tag)."""
    levels: tuple[int, ...] = (3, 4, 5)
    """Stages (1: the stem) whose features correlate. Inference lists 1 to 5; 3 to 5 bound the
    memory [inferred]."""
    seed_foreground: float = 0.30
    """Activations of at least this are sure of their class (released arguments)."""
    seed_background: float = 0.05
    """Activations of at most this are sure of its absence (released arguments)."""
    correlation_first: float = 0.50
    """Cosines below this count as 0 (released arguments)."""
    correlation_second: float = 0.10
    """Second-order correlations below this share of the mean count as 0 (released arguments)."""
    refine: int = 4
    """Labels are refined and learned at the crop's size over this [inferred]."""
    refine_steps: int = 10
    """Iterations of PAMR (Araslanov and Roth) [inferred]."""
    refine_dilations: tuple[int, ...] = (1, 2, 4, 8, 12, 24)
    """Distances of its neighbours; a comment's shape says six of them [inferred]."""
    certain: float = 0.55
    """Refined maps of at least this label their class (tag) [inferred: what c means]."""
    uncertain: float = 0.10
    """Refined maps of at most this label the background (tag) [inferred: what u means]."""

    # -- ours: not in the publication ------------------------------------------------------------
    cue: str = ""
    """Folder of cues as masks, ID.png with 255 where there is no cue; empty: none, as published.
    Where there is a cue the maps have its values: 1 for its class, 0 for all others (ours)."""


@dataclass(frozen=True)
class Mixing:
    """EdgePredictMix: what is pasted into the neighbour image."""

    mix_epoch: int = 15
    """Epoch from which mixed images are learned (tag)."""
    mix: Literal["edge", "certain", "classmix", "cutmix", "none"] = "edge"
    """Objects of the decoder's labels that pass the edge rule or the certain filter, half the
    classes, or a rectangle; none: no mixing."""
    edge: float = 0.2
    """Score differences to a neighbour of at least this are sharp edges [inferred]."""


@dataclass(frozen=True)
class Inference:
    """Class set and background at test."""

    presence: float = 0.34
    """Without tags, classes of at least this probability may occur (released README). 0: the
    decoder's classes and background are taken as they are (ours)."""
    gamma: float = 2.0
    """The background scores (1 - the best class)^gamma (released)."""


@dataclass(frozen=True)
class RSEPMRecipe:
    """ResNet-50 at stride 16. Sources: "tag" is the default run name of the released code, "DHR"
    the training code of the authors' next paper (shjo-april/DHR), [inferred] what neither says for
    this method. Crop, scale, jitter and solver: DHR [inferred]."""

    data: Flat[Data] = Data(
        size=(512, 512), fit="crop", long=(320, 640), jitter=(0.3, 0.3, 0.3, 0.1), mirror=True
    )
    solver: Flat[Solver] = preset.DHR_SOLVER
    backbone: Flat[Backbone] = ResNet()
    head: Flat[DecoderHead] = DecoderHead()
    average: Flat[Average] = Average()
    recursion: Flat[Recursion] = Recursion()
    mixing: Flat[Mixing] = Mixing()
    inference: Flat[Inference] = Inference()
    prediction: Flat[Prediction] = preset.RECURSEED_TEST


SMALL = RSEPMRecipe(
    preset.SMALL_DATA, replace(preset.SMALL_SOLVER, steps=600), preset.SMALL_RESNET,
    preset.SMALL_DECODER, Average(0.98, 50.0),
    Recursion(recursion_epoch=3, levels=(4, 5), refine=2, refine_dilations=(1, 2, 4)),
    Mixing(mix_epoch=5), prediction=preset.SMALL_DECODER_TEST,
)  # fmt: skip

PHOTO = preset.photo(
    RSEPMRecipe(),
    epochs=12,
    lr=2e-4,
    average=Average(0.98, 50.0),
    # Stages 2 to 4 of a network of timm are those of strides 8 and 16.
    recursion=Recursion(recursion_epoch=3, levels=(2, 3, 4), refine_dilations=(1, 2, 4)),
    mix_epoch=6,
    presence=0.0,
)


class RecurSeed(Stage):
    """Single stage: maps that teach themselves and a decoder."""

    can: ClassVar = SEGMENTS
    recipes: ClassVar = {
        # not measured; published: 69.5 on VOC 2012 val
        "paper": RSEPMRecipe(),
        # script/rsepm.sh, single stage: 74.5 on scenes (3 seeds); 2 cores
        "small": SMALL,
        # script/rsepm.sh, single stage: 68.0 on msrc-objects (3 seeds), 15 minutes on 1 core
        "photo": PHOTO,
    }

    def __init__(self, recipe: RSEPMRecipe, spec):
        if not isinstance(recipe.backbone, ResNet | Timm):
            raise refuse(recipe.backbone, "rsepm")
        network = RSEPM(recipe.backbone.trunk(), spec.num_classes, recipe.head)
        average = recipe.average
        super().__init__(recipe, spec, Averaged(network, average.average, average.average_ramp))
        self.phases = {"--recursion-epoch": recipe.recursion.recursion_epoch}
        self.presence = recipe.inference.presence
        if recipe.mixing.mix != "none":
            self.phases["--mix-epoch"] = recipe.mixing.mix_epoch

    def load(self):
        report = self.recipe.backbone.load(self.network.live)
        self.network.reset()
        return report

    def after_step(self) -> None:
        self.network.update()

    def dataset(self) -> Images:
        cue = self.recipe.recursion.cue
        if cue and not Path(cue).is_dir():
            raise UserError(
                f"--cue {cue} is not a folder: this stage takes cues as masks, FOLDER/ID.png "
                "with 255 where there is no cue"
            )
        return self.images(mask=cue or None)

    # -- training ---------------------------------------------------------------------------

    def terms(self, batch: dict, context: Context) -> dict[str, Term]:
        recursion, mixing = self.recipe.recursion, self.recipe.mixing
        image, tag = batch["image"], batch["tag"]
        height, width = (-(-side // recursion.refine) for side in image.shape[-2:])
        size = (height, width)
        inside = inside_box(batch, size)
        maps, logit, *features = context.run(self.network, image)
        terms: dict[str, Term] = {"classify": classify_loss(maps, tag, inside)}
        if context.epoch < recursion.recursion_epoch:
            # The decoder takes part in every step: torch's replicas ask for that.
            return {**terms, "recursion": 0 * maps.sum(), "segment": 0 * logit.sum()}
        small = resize(image.float(), size)
        with context.timer("recurse"):
            cue = cue_mask(batch, size)
            target = self.recurse(small, tag, inside, maps, features, cue)["refined"]
        label = self.certain(target, tag, inside)
        terms |= self.learn("", maps, logit, target, label, tag, inside)
        if context.epoch < mixing.mix_epoch or mixing.mix == "none":
            return terms
        own, region = self.own_labels(small, logit, tag, inside)
        mixed = [paste(x, x.roll(1, 0), region) for x in (own, target, inside)]
        # A class that came with the pasted part is there; the image's own stay, though some may
        # be covered now.
        tag = torch.maximum(tag, shown_classes(mixed[0], self.num_classes).to(tag))
        large = resize(region[:, None].float(), image.shape[-2:])[:, 0] >= 0.5
        maps, logit, *_ = context.run(self.network, paste(image, image.roll(1, 0), large))
        return terms | self.learn("mixed ", maps, logit, mixed[1], mixed[0], tag, mixed[2])

    @torch.no_grad()
    def recurse(
        self, image: Tensor, tag: Tensor, inside: Tensor, maps: Tensor, features: list[Tensor],
        cue: Tensor | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Refine activation maps: by correlation, then by colour.

        Args:
            image: RGB 0..255 at the size of the labels, (N, 3, h, w).
            inside: whether a pixel of that size is image and no filling, (N, 1, h, w).
            cue: class indices, `IGNORE` where there is no cue, (N, h, w).

        Returns:
            "cam", "correlated" and "refined", all (N, K, ., .) in [0, 1], zero without a tag; the
            last at the size of `image`.

        Differs: where there is a cue, the first and the last map have its values.
        """
        recursion = self.recipe.recursion
        present = tag[:, :, None, None] * resize(inside.float(), maps.shape[-2:])
        cam = with_cues(over_peak(maps), cue) * present
        levels = [features[level - 1] for level in recursion.levels]
        correlated = self_correlation_map(
            cam, levels, levels[0].shape[-2:], recursion.seed_foreground,
            recursion.seed_background, recursion.correlation_first, recursion.correlation_second,
        )  # fmt: skip
        refined = self.refine(image, correlated)
        # Over its maximum, as the maps that learn it are.
        present = tag[:, :, None, None] * inside
        refined = with_cues(over_peak(refined * present), cue) * present
        return {"cam": cam, "correlated": correlated, "refined": refined}

    def refine(self, image: Tensor, score: Tensor) -> Tensor:
        """Scores (N, C, ., .) after PAMR on images, at their size."""
        recursion, score = self.recipe.recursion, resize(score, image.shape[-2:])
        return pamr(image[:, :3], score, recursion.refine_steps, recursion.refine_dilations)

    def certain(self, target: Tensor, tag: Tensor, inside: Tensor) -> Tensor:
        """What refined maps (N, K, h, w) are sure of, (N, h, w)."""
        recursion = self.recipe.recursion
        label = certain_labels(target, tag, recursion.certain, recursion.uncertain)
        return label.masked_fill(~inside[:, 0], IGNORE)

    @torch.no_grad()
    def own_labels(
        self, image: Tensor, logit: Tensor, tag: Tensor, inside: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The decoder's labels (N, h, w), and which region of the image before is pasted from it,
        bool (N, h, w); arguments as of `recurse`, with the decoder's logits."""
        recursion, mixing = self.recipe.recursion, self.recipe.mixing
        score = self.refine(image, torch.softmax(resize(logit, image.shape[-2:]), dim=1))
        if mixing.mix == "edge":
            label = edge_labels(score, tag, recursion.certain, mixing.edge)
        elif mixing.mix == "certain":
            label = certain_labels(score[:, 1:], tag, recursion.certain, recursion.uncertain)
        else:
            label = best_labels(score, tag)
        label = label.masked_fill(~inside[:, 0], IGNORE)
        if mixing.mix == "classmix":
            draw = torch.rand(len(label), self.num_classes, device=label.device)
            region = class_region(label, self.num_classes, draw)
        elif mixing.mix == "cutmix":
            draw = torch.rand(len(label), 3, device=label.device)
            region = rectangle_region(tuple(label.shape[-2:]), draw)
        else:
            region = object_region(label)
        return label, region.roll(1, 0)

    def learn(
        self, name: str, maps: Tensor, logit: Tensor, target: Tensor, label: Tensor, tag: Tensor,
        inside: Tensor,
    ) -> dict[str, Term]:  # fmt: skip
        """The recursion loss on the maps and the cross entropy on the decoder's logits."""
        recursion = self.recipe.recursion
        present = tag[:, :, None, None] * resize(inside.float(), maps.shape[-2:])
        error = (over_peak(maps) - resize(target, maps.shape[-2:])).abs() * present
        entropy, pixels = segment_loss(resize(logit, label.shape[-2:]), label)
        return {
            f"{name}recursion": (recursion.recursion_weight * error.sum(), present.sum()),
            f"{name}segment": (recursion.segment_weight * entropy, pixels),
        }

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        """What the refined maps are sure of, what is pasted, and the prediction."""
        image, tag = batch["image"], batch["tag"]
        inside = inside_box(batch, image.shape[-2:])
        maps, logit, *features = self.network(image)
        cue = cue_mask(batch, image.shape[-2:])
        target = self.recurse(image.float(), tag, inside, maps, features, cue)["refined"]
        return {
            "refined maps": self.certain(target, tag, inside),
            "own labels": self.own_labels(image.float(), logit, tag, inside)[0],
            "prediction": logit.argmax(1),
        }

    # -- prediction -------------------------------------------------------------------------

    def view(self, image: Tensor) -> tuple[Tensor, ...]:
        """The decoder's scores (N, C, h, w) and the classifier's (N, K)."""
        maps, logit, *_ = self.network(image)
        return torch.softmax(logit, dim=1), torch.sigmoid(maps.mean(dim=(2, 3)))

    def join(self, means: Sequence[Tensor], tags: Tensor | None, count: int) -> Tensor:
        """Seeds: each class over its maximum; the background from what they leave.

        The classes are the image's tags or, without, those that the classifier finds.

        Source: infer_rsepm.py and convert_seed_to_pseudo_masks.py of the released code. Differs:
        bilinear between scales; without tags and with `presence` 0, the decoder's scores.
        """
        score, presence = means
        if tags is None and not self.presence:
            return score
        seed = of_tags(score[:, 1:], (presence >= self.presence if tags is None else tags) > 0)
        seed = seed / (seed.amax(dim=(2, 3), keepdim=True) + 1e-5)
        background = (1 - seed.amax(dim=1, keepdim=True)) ** self.recipe.inference.gamma
        return torch.cat((background, seed), dim=1)


def classify_loss(maps: Tensor, tag: Tensor, inside: Tensor) -> Tensor:
    """Multi-label soft margin of tags and the means of maps (N, K, h, w) inside the image."""
    weight = resize(inside.float(), maps.shape[-2:])
    logit = (maps * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3)).clamp_min(1)
    return nn.functional.multilabel_soft_margin_loss(logit, tag)


def with_cues(maps: Tensor, cue: Tensor | None) -> Tensor:
    """Maps (N, K, H, W); where cues (N, h, w) are, 1 for the class of the cue and 0 for others."""
    if cue is None:
        return maps
    cue = resize_mask(cue, maps.shape[-2:], "nearest-exact")[:, None]
    classes = torch.arange(1, maps.shape[1] + 1, device=maps.device).view(1, -1, 1, 1)
    return torch.where(cue == IGNORE, maps, (cue == classes).to(maps.dtype))
