"""Locate, then segment: class activation maps turned into masks by a class-agnostic network.

The segmenter gets an image and a map that says roughly where one object class is, and gives back
its mask. It learns from masks of other, external classes, together with a localiser (SEAM) whose
maps of these classes are its prompts (`Segmenter`). On a target data set a localiser that knows
tags alone gives the prompts; what the segmenter makes of them is segmented again, some passes
long (`Resegment`). No mask of the target is ever seen.

Differs from the released code (wjlbnw/SegmentationFromLocalization): the segmenter ends in a
sigmoid (there it is commented out, and Dice has no bounds); images are scaled by 0.7 to 1.3 (there
always by 1.3); the pairs of a step come from its own batch (there a buffer fills up over several);
pixels of no class do not count.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from base import IGNORE, UserError
from base.contract import Context, Term, channels_last
from base.recipe import Data, Flat, Prediction, Solver
from base.tensor import max_norm, over_peak, resize
from datalist.dataset import Images
from loss.dice import dice_loss, entropy_loss
from loss.seam import pooled_maps
from method import localiser, preset
from method.backbone import Backbone, ResNet, ResNet38d, Timm, Transformer
from method.head import DecoderHead
from method.localiser import CorrelationHead, SEAMLosses
from method.stage import Stage, mean_score, parameter_groups
from method.target import begin, others_share, shown_classes
from network.deeplabv3 import DeepLabV3Plus
from network.prompt import LocateSegment
from network.weight import load_all


@dataclass(frozen=True)
class Prompting:
    """How localiser and segmenter predict together."""

    passes: int = 3
    """Number of segmenter passes: first on the localiser's map, then on its own mask."""
    background: float = 0.5
    """Score of the background beside the masks (infer_and_envalue.py)."""

    # -- ours: not in the publication ------------------------------------------------------------
    presence: float = 0.5
    """Without tags: classes that the localiser gives a higher probability are segmented (ours)."""
    average: bool = False
    """The prompt is the mean of plain and refined maps of all scales and mirror images, each over
    its peak (ours), instead of the plain map of one scale."""
    joint: bool = False
    """A class scores the geometric mean of its mask and its map (ours), instead of the mask."""


@dataclass(frozen=True)
class SegmenterTraining:
    """What the segmenter learns from at a step."""

    start: str = ""
    """Checkpoint of a `seam` run on the same data set to start the localiser from (as released);
    empty: the backbone's weights."""
    start_segmenter: str = ""
    """Checkpoint of a `segmenter` run to start the segmenter from (as released: --edge_weights);
    empty: its backbone's weights."""
    pairs: int = 4
    """Pairs of an image and a class that the segmenter learns from at each step, at most."""
    adam_lr: float = 0.0
    """Learning rate of the segmenter's own Adam, constant and without weight decay, while the
    solver trains the localiser alone (as released); 0: the solver trains both."""

    # -- ours: not in the publication ------------------------------------------------------------
    fixed: bool = False
    """A localiser that starts from a checkpoint (`start`) learns no more, and only gives prompts
    (ours): half of the work."""
    entropy: float = 0.0
    """Weight of the binary cross entropy beside Dice (ours). Where a class covers most of what
    counts in an image, Dice alone stops at a mask of everything."""
    contrast: float = 0.0
    """Share of an image that other classes must cover for a pair to be learned from (ours): where
    all pixels but those of one class are ignored, a network learns to mask everything."""


@dataclass(frozen=True)
class SegmenterRecipe:
    """Training on external masks: train_edge.py and its command line."""

    data: Flat[Data] = replace(localiser.DATA, long=None, scale=(0.7, 1.3))
    # The localiser's. As in SEAM, the released optimiser has next to no momentum.
    solver: Flat[Solver] = Solver(steps=55000, batch=2, policy="poly", momentum=0.0)
    backbone: Flat[Backbone] = ResNet38d()
    head: Flat[CorrelationHead] = CorrelationHead()
    seam: Flat[SEAMLosses] = SEAMLosses(ratio=0.5)
    segmenter: ResNet | Timm | Transformer = ResNet(
        blocks=(3, 4, 23, 3), dilation=(1, 1, 1, 2), multigrid=(1, 2, 4)
    )
    decoder: DecoderHead = DecoderHead(low=48, dropout=0.0)  # released: none dropped
    prompting: Flat[Prompting] = Prompting()
    training: Flat[SegmenterTraining] = SegmenterTraining(adam_lr=1e-4)
    prediction: Flat[Prediction] = Prediction(test_crf="deeplab")


@dataclass(frozen=True)
class Trained:
    """The two networks, trained before."""

    start: str = ""
    """Checkpoint of a `seam` run on this data set: the localiser."""
    segmenter_checkpoint: str = ""
    """Checkpoint of a `segmenter` run on an external data set."""


@dataclass(frozen=True)
class ResegmentRecipe:
    """A localiser of the target's classes and a segmenter, both trained before. With `steps` above
    0 the localiser learns on as `seam` does; the segmenter is fixed."""

    data: Flat[Data] = localiser.DATA
    solver: Flat[Solver] = Solver(steps=0, epochs=8, batch=8, lr=0.01, momentum=0.0, policy="poly")
    backbone: Flat[Backbone] = ResNet38d()
    head: Flat[CorrelationHead] = CorrelationHead()
    seam: Flat[SEAMLosses] = SEAMLosses()
    segmenter: ResNet | Timm | Transformer = SegmenterRecipe.segmenter
    decoder: DecoderHead = SegmenterRecipe.decoder
    prompting: Flat[Prompting] = Prompting()
    trained: Flat[Trained] = Trained()
    prediction: Flat[Prediction] = Prediction(test_crf="deeplab")


def resegmenting(segmenter: SegmenterRecipe, data: Data, solver: Solver) -> ResegmentRecipe:
    """The recipe that uses the networks of a segmenter's recipe on the target data set."""
    shared = ("backbone", "head", "seam", "segmenter", "decoder", "prompting", "prediction")
    return ResegmentRecipe(data, solver, **{name: getattr(segmenter, name) for name in shared})


SMALL_SEGMENTER_NETWORK = ResNet(
    "none", width=(16, 8, 16, 16, 24), blocks=(1, 1, 2, 1), stride=(2, 1, 2, 2, 1),
    dilation=(1, 1, 1, 2), multigrid=(1, 2, 4),
)  # fmt: skip
SMALL_SEGMENTER = SegmenterRecipe(
    # 0.7 to 1.3 of the longer side at test
    replace(localiser.SMALL_DATA, long=(67, 125)),
    replace(preset.SMALL_SOLVER, steps=800, batch=8),
    localiser.SMALL_BACKBONE, localiser.SMALL_CORRELATION, localiser.SMALL_LOSSES,
    SMALL_SEGMENTER_NETWORK, DecoderHead(low=16, hidden=32, rates=(2, 4, 6), dropout=0.0),
    # A segmenter from scratch loses some points with each further pass.
    Prompting(passes=1), SegmenterTraining(pairs=8),
    Prediction(test_crf="deeplab", test_crf_scale=4.0),
)  # fmt: skip
SMALL_RESEGMENT = resegmenting(
    SMALL_SEGMENTER, localiser.SMALL_DATA, replace(preset.SMALL_SOLVER, steps=0)
)
PHOTO_SEGMENTER = preset.photo(
    SegmenterRecipe(),
    steps=300,
    epochs=None,
    batch=4,
    head=localiser.PHOTO_CORRELATION,
    seam=localiser.PHOTO_LOSSES,
    segmenter=preset.PHOTO["backbone"],
    decoder=replace(preset.PHOTO["head"], dropout=0.0),
    # Each further pass spreads the masks.
    prompting=Prompting(passes=1, average=True, joint=True),
    training=SegmenterTraining(pairs=4, fixed=True, entropy=1.0, contrast=0.05),
)
PHOTO_RESEGMENT = resegmenting(
    PHOTO_SEGMENTER, preset.PHOTO["data"], replace(preset.PHOTO["solver"], steps=0, epochs=None)
)


def segment(network, image: Tensor, prompt: Tensor) -> Tensor:
    """Masks in [0, 1], (P, H, W), of images (P, 3, H, W) with a prompt in [0, 1] each, (P, h, w).

    `network` gives logits (P, 1, h, w) of images that the prompt follows as a channel.
    """
    size = image.shape[-2:]
    prompt = resize(prompt[:, None].float(), size, align_corners=True)
    logit = network(torch.cat((image.to(prompt), prompt), dim=1))
    return resize(logit, size, align_corners=True)[:, 0].sigmoid()


def resegment_scores(
    network: LocateSegment, image: Tensor, maps: Tensor, tags: Tensor, prompting: Prompting
) -> Tensor:
    """Scores of images (N, 3, H, W) after all passes, (N, C, H, W), background first; sum 1.

    `maps` are the localiser's, any real numbers, (N, K, h, w); with no passes they are the masks.
    """
    shown, label = tags.nonzero(as_tuple=True)
    mask = start = max_norm(resize(maps, image.shape[-2:], align_corners=True))[shown, label]
    for _ in range(prompting.passes if len(shown) else 0):
        mask = segment(network, image[shown], mask)
    if prompting.joint:
        mask = (mask * start).sqrt()
    score = torch.zeros(len(image), maps.shape[1] + 1, *image.shape[-2:], device=image.device)
    score[:, 0] = prompting.background
    score[shown, label + 1] = mask
    return score / score.sum(dim=1, keepdim=True)


class LocateStage(Stage):
    """A localiser and a segmenter that predict together."""

    can: ClassVar = frozenset({"predict"})  # the number of masks depends on the image

    def __init__(
        self, recipe: SegmenterRecipe | ResegmentRecipe, spec, background: bool, fixed: bool = False
    ):
        trunk = recipe.segmenter.trunk(extra=1)
        segmenter = DeepLabV3Plus(trunk, 1, recipe.decoder, align_corners=True, extra=1)
        locate = localiser.build(recipe, spec.num_classes, background)
        super().__init__(recipe, spec, LocateSegment(locate, segmenter, fixed))
        self.presence = recipe.prompting.presence

    def views(self, images: list[Tensor], mirror: bool) -> list[tuple[Any, ...]]:
        """Images, whether they are mirrored, and the network's two kinds of maps of them."""
        flips = (False, True) if mirror else (False,)
        return [
            (image, flip, *self.network(channels_last(mirrored(image, flip))))
            for image in images
            for flip in flips
        ]

    def score(self, views: list[tuple[Any, ...]], tags: Tensor | None) -> Tensor:
        """Mean of `resegment_scores` over scales and mirror images.

        Without tags the localiser decides which classes there are, by the first view.
        """
        prompting = self.recipe.prompting
        maps = [mirrored(cam, flip) for _, flip, cam, _ in views]
        if tags is None:
            tags = pooled_maps(maps[0], self.recipe.seam.decay).sigmoid() > self.presence
        if prompting.average:
            classes = tags.shape[1]  # the refined maps may begin with one of the background
            fine = [mirrored(cam[:, -classes:], flip) for _, flip, _, cam in views]
            maps = [mean_score([over_peak(cam) for cam in maps + fine])] * len(views)
        scores = []
        for (image, flip, *_), prompt in zip(views, maps):
            pair = mirrored(image, flip), mirrored(prompt, flip)
            score = resegment_scores(self.network, *pair, tags, prompting)
            scores.append(mirrored(score, flip))
        return mean_score(scores)


class Segmenter(LocateStage):
    """A class-agnostic network that turns maps into masks."""

    recipes: ClassVar = {
        # not measured
        "paper": SegmenterRecipe(),
        "paper-resnet50": SegmenterRecipe(backbone=preset.IRN_RESNET50),
        # script/locate.sh, masks of the training images: see Resegment; 2 cores
        "small": SMALL_SEGMENTER,
        "small-resnet50": replace(SMALL_SEGMENTER, backbone=localiser.SMALL_RESNET50),
        # script/locate.sh, the same; 1 core
        "photo": PHOTO_SEGMENTER,
    }

    def __init__(self, recipe: SegmenterRecipe, spec):
        fixed = recipe.training.fixed and bool(recipe.training.start)
        super().__init__(recipe, spec, background=False, fixed=fixed)

    def load(self) -> str:
        """Start both networks; returns the reports of keys."""
        recipe, network, training = self.recipe, self.network, self.recipe.training
        first = begin(recipe.backbone, network.localiser, training.start)
        second = begin(recipe.segmenter, network.segmenter, training.start_segmenter, "segmenter")
        return f"{first}\n{second}"

    def groups(self) -> list[dict]:
        """Parameter groups; those of the segmenter may have an optimiser of their own."""
        rate = self.recipe.training.adam_lr
        if not rate:
            return super().groups()
        first, second = self.network.localiser, self.network.segmenter
        new = [first.get_submodule(name) for name in first.new]
        own = [p for p in second.parameters() if p.requires_grad]
        adam = {"params": own, "lr": rate, "weight_decay": 0.0}  # AdamW without decay is Adam
        adam |= {"optimizer": "adamw", "policy": "constant"}
        return [*parameter_groups(first, new, self.recipe.solver), adam]

    def dataset(self) -> Images:
        return self.images(mask=self.spec.mask_folder, tag=False)

    def terms(self, batch: dict, context: Context) -> dict[str, Term]:
        image, mask = batch["image"], batch["mask"]
        tag = shown_classes(mask, self.num_classes)
        seam, training, fixed = self.recipe.seam, self.recipe.training, self.network.fixed
        with torch.set_grad_enabled(not fixed):
            seen = replace(seam, equivariance=False) if fixed else seam
            views = localiser.two_views(image, seen, self.network, context)
        terms = {} if fixed else localiser.compare_views(views, tag, seam, context)
        cam, refined = views[0]
        useful = tag * (others_share(mask, self.num_classes) >= training.contrast)
        shown, label = self.draw_pairs(useful)
        # An image without any class teaches that where nothing is located nothing is segmented.
        known = tag[shown, label][:, None, None]
        prompts = [max_norm(maps.detach())[shown, label] * known for maps in (cam, refined)]
        run = partial(context.run, self.network)
        both = segment(run, torch.cat((image[shown],) * 2), torch.cat(prompts))
        first, second = both.chunk(2)
        truth, valid = (mask[shown] == label[:, None, None] + 1).float(), mask[shown] != IGNORE
        masks = {
            "segment": dice_loss(first, truth, valid),
            "segment refined": dice_loss(second, truth, valid),
            "agree": dice_loss(first, second, valid),
        }
        if training.entropy:
            entropy = entropy_loss(first, truth, valid) + entropy_loss(second, truth, valid)
            masks["entropy"] = training.entropy * entropy
        return terms | masks

    def draw_pairs(self, tag: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of images and of their classes, (P,) each: some of those shown, at least one."""
        pairs = tag.nonzero() if tag.any() else tag.new_zeros(1, 2, dtype=torch.long)
        kept = torch.randperm(len(pairs))[: self.recipe.training.pairs].to(pairs.device)
        return pairs[kept].unbind(1)

    @torch.no_grad()
    def panels(self, batch: dict) -> dict[str, Tensor]:
        """What the segmenter makes of the classes in the crop, after the last pass."""
        tag = shown_classes(batch["mask"], self.num_classes)
        return {"prediction": self.predict([batch["image"]], tag, False).argmax(1)}


class Resegment(LocateStage):
    """Masks of tags: maps that an external network segments."""

    recipes: ClassVar = {
        # not measured; published: 68.8 on VOC 2012 val, retrained
        "paper": ResegmentRecipe(),
        "paper-resnet50": ResegmentRecipe(backbone=preset.IRN_RESNET50),
        # script/locate.sh, masks of the training images: 76.2 on scenes (3 seeds); 2 cores
        "small": SMALL_RESEGMENT,
        "small-resnet50": replace(SMALL_RESEGMENT, backbone=localiser.SMALL_RESNET50),
        # script/locate.sh, the same: 55.3 on msrc-objects, 67.2 on camvid-third; 1 core
        "photo": PHOTO_RESEGMENT,
    }

    def __init__(self, recipe: ResegmentRecipe, spec):
        super().__init__(recipe, spec, background=True)
        self.network.segmenter.requires_grad_(False)

    def load(self) -> str:
        """Take localiser and segmenter from their checkpoints; returns the reports of keys."""
        trained = self.recipe.trained
        if not trained.segmenter_checkpoint:
            raise UserError(
                "resegment needs a network that segments: give --segmenter-checkpoint FILE of a "
                "segmenter run on an external data set (script/locate.sh makes one)"
            )
        if not trained.start and not self.recipe.solver.steps:
            raise UserError(
                "resegment needs a localiser: give --start CHECKPOINT of a seam run on this data "
                "set (script/locate.sh makes one), or --steps above 0 to train one"
            )
        first = begin(self.recipe.backbone, self.network.localiser, trained.start)
        second = load_all(self.network.segmenter, trained.segmenter_checkpoint, "segmenter")
        return f"{first}\n{second}"

    def terms(self, batch: dict, context: Context) -> dict[str, Term]:
        views = localiser.two_views(batch["image"], self.recipe.seam, self.network, context)
        return localiser.compare_views(views, batch["tag"], self.recipe.seam, context)


def mirrored(maps: Tensor, flip: bool) -> Tensor:
    """Maps or images (N, C, H, W), left and right swapped where `flip` says so."""
    return maps.flip(3) if flip else maps
