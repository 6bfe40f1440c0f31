"""The contract between a method and what runs it: the loop, the predictor, export and report.

`method/` implements `Stage`; `utils/` runs it. Neither imports the other.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from base.recipe import Data, Prediction, Solver

Ability = Literal["predict", "cue", "export", "tile"]
"""predict: `Stage.predict` gives class scores; cue: `Stage.cues` gives localization cues; export:
`predict` can be written as a program; tile: scores of a window are not scaled by its highest, so
that those of windows can be put together."""


Term: TypeAlias = "Tensor | tuple[Tensor, Tensor]"
"""A loss on the images of a process: its mean over them, or its sum and what it is divided by, such
as a number of pixels, which is then that of all processes."""


@dataclass
class Context:
    """What belongs to a run and not to a method; the loop makes one for every step."""

    step: int = 0
    """Steps taken before this one."""
    epoch: int = 0
    """Passes over the training images completed before this step."""
    bfloat16: bool = False
    """Run the network in bfloat16. Losses are float32."""
    replica: Callable[[Tensor], Any] | None = None
    """The network wrapped for several processes or compiled; None: the network itself."""
    mean: Callable[[Tensor], Tensor] = lambda value: value
    """Mean of a tensor over the processes."""
    weight: float = 1.0
    """Weight of this process's mean over images: its images times processes, over the batch."""
    timer: Callable[[str], AbstractContextManager] = lambda name: nullcontext()
    """Times a part of the step under a name."""

    def share(self, term: Term) -> Tensor:
        """This process's share of a loss; the mean of all shares is the loss of the whole batch."""
        if isinstance(term, tuple):
            total, count = term
            return total / self.mean(count.float()).clamp_min(1)
        return self.weight * term

    def run(self, network: Callable[[Tensor], Any], image: Tensor) -> Any:
        """Run a stage's network on images (N, 3, H, W); float32 tensor or tuple of tensors."""
        # Not `replica or network`: the truth of a compiled module is its length, which it may lack.
        call = network if self.replica is None else self.replica
        with self.timer("network"), torch.autocast(
            image.device.type, torch.bfloat16, enabled=self.bfloat16
        ):  # fmt: skip
            output = call(channels_last(image))
        if isinstance(output, tuple):
            return tuple(part.float() for part in output)
        return output.float()


def channels_last(image: Tensor) -> Tensor:
    """The memory layout that convolutions prefer."""
    return image.contiguous(memory_format=torch.channels_last)


class Recipe(Protocol):
    """The parts of a recipe that the loop and the predictor read."""

    @property
    def data(self) -> Data: ...

    @property
    def solver(self) -> Solver: ...

    @property
    def prediction(self) -> Prediction: ...


class Stage(Protocol):
    """One network with its recipe, data, losses and predictions."""

    recipes: ClassVar[Mapping[str, Any]]
    """Named recipes: "paper" as published, "small" for a laptop without pretrained weights, "smoke"
    to run every line in seconds."""
    can: ClassVar[frozenset[Ability]]
    """What the stage offers beside training."""
    recipe: Any
    """A `Recipe` with the method's own groups."""
    spec: Any
    """A `datalist.spec.Spec`."""
    network: nn.Module
    phases: Mapping[str, float]
    """Epoch at which each phase of the schedule begins, by name; often empty."""
    folder: Path | None
    """Folder of the run, where a stage may keep what it can compute again; None: nowhere."""
    first_view: ClassVar[tuple[int, ...]]
    """Parts of a `view` that `join` takes of the first view alone, not as means."""
    presence: float | None
    """Least probability of a class that may occur where tags are not known; None: the stage does
    not find classes itself."""

    def load(self) -> Any:
        """Start from the recipe's weights; the result prints as a report."""

    def dataset(self) -> Any:
        """Training samples: a map-style data set of dicts, indexed by (index, draw)."""

    def groups(self) -> list[dict]:
        """Parameter groups of the optimizer; each trainable parameter is in exactly one.

        A group may have another "optimizer" than the solver's, "sgd" or "adamw", and the "policy"
        "constant".
        """

    def losses(self, batch: dict, context: Context) -> dict[str, Tensor]:
        """Named scalars of a batch, by `Context.share`; the objective is their sum."""

    def after_step(self) -> None:
        """Called after each optimiser step. What it keeps must be in the network's state dict."""

    def panels(self, batch: dict) -> dict[str, Tensor]:
        """Class maps (N, h, w) to show beside the images of a batch, by title."""

    def predict(self, images: list[Tensor], tags: Tensor | None, mirror: bool) -> Tensor:
        """Class scores with background: the one way to predict.

        Args:
            images: the same images at each scale, each RGB 0..255, (N, 3, H, W).
            tags: multi-hot image-level labels (N, K); None where they are not known.
            mirror: average with the prediction on the mirrored images.

        Returns:
            Scores in [0, 1], (N, num_classes, h, w), background first.
        """

    def views(self, images: list[Tensor], mirror: bool) -> list[Any]:
        """What the network says of images, as of `predict`: an item for each scale and, after it,
        with `mirror` one for the mirrored images."""

    def score(self, views: list[Any], tags: Tensor | None) -> Tensor:
        """Scores, as of `predict`, of some items of `views`."""

    def view(self, image: Tensor) -> tuple[Tensor, ...]:
        """What `predict` averages over scales and mirror images; of stages that can "export".

        Args:
            image: RGB 0..255, (N, 3, H, W).

        Returns:
            Maps (N, K, h, w), then any further maps or numbers (N, K).
        """

    def join(self, means: Sequence[Tensor], tags: Tensor | None, count: int) -> Tensor:
        """Scores, as of `predict`, of the means of `count` views; without weights of a network."""

    def cues(self, images: Tensor, tags: Tensor) -> Tensor:
        """Localization cues, bool (N, num_classes, h, w); of stages that can "cue"."""
