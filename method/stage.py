"""The small base of all stages: recipe, data set, network, and what most of them do alike."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from base import UserError
from base.contract import Ability, Context, Term, channels_last
from base.recipe import Solver
from base.tensor import resize
from datalist.bag import BAGS_FILE
from datalist.dataset import Images
from datalist.spec import Spec
from method.head import segmentation_network
from method.smoke import smoke
from network.bands import widen
from network.normalise import Normalise
from network.transformer import TransformerTrunk
from network.weight import Report

SEGMENTS: frozenset[Ability] = frozenset({"predict", "export", "tile"})
"""What a stage offers whose scores are those of a segmentation network."""


class Stage:
    """Keeps a recipe, a data set and a network; see `base.contract.Stage` for the contract.

    A subclass sets `recipes` (those for the smoke tests are added) and `can`, gives its network to
    the constructor, and writes `terms`, `view`, `dataset` where images and tags are not all that it
    learns from, and `join` where the mean of the views is not the score.
    """

    recipes: ClassVar[dict[str, Any]] = {}
    can: ClassVar[frozenset[Ability]] = frozenset({"predict", "export"})
    phases: dict[str, float] = {}
    folder: Path | None = None
    first_view: ClassVar[tuple[int, ...]] = ()
    presence: float | None = None
    pools: ClassVar[bool] = False
    """Whether the losses know that tags may be those of a bag of tiles (`datalist.bag`)."""

    def __init_subclass__(cls) -> None:
        cls.recipes = cls.recipes | {
            name.replace("small", "smoke"): smoke(recipe)
            for name, recipe in cls.recipes.items()
            if name.startswith("small")
        }

    def __init__(self, recipe: Any, spec: Spec, network: nn.Module):
        self.recipe = recipe
        self.spec = spec
        self.network = network
        if spec.bands.channels > 3:
            if not spec.bands.mean:
                raise UserError(
                    f"the mean of the {spec.bands.channels} bands is not known: run `python -m "
                    "datalist.prepare.bands FOLDER --bands ...`, which measures it"
                )
            widen(network, spec.bands.mean, spec.bands.deviation)

    @property
    def num_classes(self) -> int:
        """Classes, the background counted."""
        return self.spec.num_classes

    def load(self) -> Report | str:
        """Start from the backbone's weights; returns the report of keys."""
        return self.recipe.backbone.load(self.network)

    def dataset(self) -> Images:
        """Training images with their tags."""
        return self.images()

    def images(self, **options: Any) -> Images:
        """Training images as the recipe's data group says, with further options of `Images`."""
        data = self.recipe.data
        data.check()
        if data.fit == "crop":
            colour = next(m for m in self.network.modules() if isinstance(m, Normalise))
            options |= {"scale": data.scale, "long": data.long, "fill": colour.mean_colour()}
        elif data.fit == "window":
            options |= {"window": data.window, "variants": data.variants}
        options |= {"mirror": data.mirror, "jitter": data.jitter, "seed": self.recipe.solver.seed}
        images = Images(self.spec, data.split, data.size, mode=data.fit, cache=True, **options)
        if images.bags is not None and not self.pools:
            raise UserError(
                f"by {self.spec.root / BAGS_FILE} tags are those of whole pictures, and this stage "
                "takes them as each tile's own: use cam, sec or dsrg; or, where every tile shows "
                "all classes of its picture, remove the file"
            )
        return images

    def groups(self) -> list[dict]:
        """Parameter groups: layers of random start learn faster, biases faster and undecayed."""
        new = [self.network.get_submodule(name) for name in self.network.new]
        return parameter_groups(self.network, new, self.recipe.solver)

    def losses(self, batch: dict, context: Context) -> dict[str, Tensor]:
        """Named scalars of a batch; the objective is their sum."""
        return {name: context.share(term) for name, term in self.terms(batch, context).items()}

    def terms(self, batch: dict, context: Context) -> dict[str, Term]:
        """The losses of a batch by name; with several processes, `losses` weights them."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Does nothing in most stages."""

    def panels(self, batch: dict) -> dict[str, Tensor]:
        """Class maps (N, h, w) to show beside the images of a batch, by title."""
        return {}

    def predict(self, images: list[Tensor], tags: Tensor | None, mirror: bool) -> Tensor:
        """Class scores with background, see `base.contract.Stage`."""
        return self.score(self.views(images, mirror), tags)

    def views(self, images: list[Tensor], mirror: bool) -> list[tuple[Tensor, ...]]:
        """`view` of images at every scale and of mirrored ones, see `base.contract.Stage`."""
        views: list[tuple[Tensor, ...]] = []
        for image in images:
            if not mirror:
                views.append(self.view(image))
                continue
            if len(image) == 1:  # a network takes less time for two at once
                both = self.view(channels_last(torch.cat((image, image.flip(3)))))
                plain, flipped = zip(*(part.chunk(2) for part in both))
            else:
                plain, flipped = self.view(image), self.view(image.flip(3))
            views += plain, tuple(part.flip(3) if part.ndim == 4 else part for part in flipped)
        return views

    def score(self, views: list[tuple[Tensor, ...]], tags: Tensor | None) -> Tensor:
        """Class scores of views, see `base.contract.Stage`."""
        means = [
            part[0] if number in self.first_view else mean_score(list(part))
            for number, part in enumerate(zip(*views))
        ]
        return self.join(means, tags, len(views))

    def view(self, image: Tensor) -> tuple[Tensor, ...]:
        """What is averaged over scales and mirror images, see `base.contract.Stage`."""
        raise NotImplementedError(f"{type(self).__name__} predicts no classes")

    def join(self, means: Sequence[Tensor], tags: Tensor | None, count: int) -> Tensor:
        """Class scores of the means of `count` views: the first of them."""
        return means[0]

    def cues(self, images: Tensor, tags: Tensor) -> Tensor:
        """Localization cues, see `base.contract.Stage`."""
        raise NotImplementedError(f"{type(self).__name__} makes no cues")


def parameter_groups(network: nn.Module, new: Sequence[nn.Module], solver: Solver) -> list[dict]:
    """Group a network's trainable parameters by learning rate and weight decay.

    Modules of `new` start at random and learn `head_factor` times as fast; earlier layers of a
    transformer learn slower.
    """
    factors = {
        id(parameter): factor
        for module in network.modules()
        if isinstance(module, TransformerTrunk)
        for parameter, factor in module.rate_factors()
    }
    for module in new:
        factors |= dict.fromkeys(map(id, module.parameters()), solver.head_factor)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in filter(lambda p: p.requires_grad, network.parameters()):
        factor = factors.get(id(parameter), 1.0)
        decay = solver.weight_decay
        if parameter.ndim == 1:  # biases and normalisation layers
            factor *= solver.bias_factor
            decay = decay if solver.decay_all else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    return [
        {"params": members, "lr": solver.lr * factor, "weight_decay": decay}
        for (factor, decay), members in groups.items()
    ]


# -- prediction over scales and mirror images ---------------------------------------------------


class SoftmaxMean(Stage):
    """A segmentation network whose scores are the mean of the softmax of logits."""

    can: ClassVar = SEGMENTS

    def __init__(self, recipe: Any, spec: Spec):
        network = segmentation_network(recipe.backbone, recipe.head, spec.num_classes)
        super().__init__(recipe, spec, network)

    def view(self, image: Tensor) -> tuple[Tensor, ...]:
        return (torch.softmax(self.network(image), dim=1),)


class SoftmaxOfSum(SoftmaxMean):
    """Scores are the softmax of summed logits.

    Source: test-ms.py of the released DSRG code. Differs: the sum is taken on the largest grid, and
    its probabilities, not the logits, are brought to the image's size.
    """

    def view(self, image: Tensor) -> tuple[Tensor, ...]:
        # The logarithm of a score is its logit up to a constant for all classes, which the softmax
        # drops.
        (score,) = super().view(image)
        return (score.clamp_min(1e-30).log(),)

    def join(self, means: Sequence[Tensor], tags: Tensor | None, count: int) -> Tensor:
        return torch.softmax(means[0] * count, dim=1)


def of_tags(maps: Tensor, tags: Tensor | None) -> Tensor:
    """Maps (N, K, h, w), 0 for classes that the tags (N, K) do not name; None: all as they are."""
    return maps if tags is None else maps * tags[:, :, None, None].to(maps)


def with_constant(maps: Tensor, background: float) -> Tensor:
    """Put a constant background score before maps (N, K, h, w): (N, K + 1, h, w)."""
    return torch.cat((torch.full_like(maps[:, :1], background), maps), dim=1)


def mean_score(scores: list[Tensor]) -> Tensor:
    """Mean of maps (N, K, h, w) of several sizes, at the size of the largest, or of numbers."""
    size = max(tuple(score.shape[-2:]) for score in scores)
    return torch.stack([resize(score, size) for score in scores]).mean(0)
