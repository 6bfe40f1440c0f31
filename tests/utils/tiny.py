"""A stage small enough to train in a blink, and a program that kills its training at random."""

import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from recipes import change
from torch import nn

from base.contract import Context, Term
from base.recipe import Data, Solver
from datalist.spec import Spec
from method.stage import Stage
from utils.flags import Train
from utils.loop import Interrupted, train

SPEC = Spec(name="tiny", root=Path("."), classes=("background", "cat", "dog"), lists={})


@dataclass(frozen=True)
class TinyOptions:
    dropout: float = 0.0
    poison: int = -1
    """Step at which a term becomes NaN."""
    late: float = 0.0
    """Epoch at which a phase begins."""


@dataclass(frozen=True)
class TinyRecipe:
    data: Data = Data(size=(8, 8))
    solver: Solver = Solver(steps=12, batch=4, lr=0.05, decay_every=5, decay_factor=0.5)
    tiny: TinyOptions = TinyOptions()


TINY = TinyRecipe()


class Noise:
    """Pictures of noise with random masks, drawn anew from (index, draw)."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, item: tuple[int, int]) -> dict:
        index, draw = item
        rng = np.random.default_rng([index, draw])
        image = torch.from_numpy(rng.integers(0, 256, (3, 8, 8), dtype=np.uint8))
        mask = torch.from_numpy(rng.choice([0, 1, 2, 255], (8, 8)).astype(np.int64))
        return {"id": f"noise{index}", "image": image, "mask": mask}


class TinyNetwork(nn.Module):
    new = ("head",)

    def __init__(self, dropout: float):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.head = nn.Conv2d(6, 3, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(torch.relu(self.first(image.float() / 255))))


class Tiny(Stage):
    """Two terms: one averages over images, one over valid pixels; both may draw random numbers."""

    def __init__(self, recipe: TinyRecipe = TINY):
        torch.manual_seed(recipe.solver.seed)
        super().__init__(recipe, SPEC, TinyNetwork(recipe.tiny.dropout))
        self.phases = {"--late": recipe.tiny.late} if recipe.tiny.late else {}

    def dataset(self) -> Noise:
        return Noise()

    def terms(self, batch: dict, context: Context) -> dict[str, Term]:
        logit = context.run(self.network, batch["image"])
        valid = batch["mask"] != 255
        pixel = nn.functional.cross_entropy(logit, batch["mask"], ignore_index=255, reduction="sum")
        image = logit.square().mean(dim=(1, 2, 3)).mean()
        if self.recipe.tiny.dropout:  # what a method may do: mixing partners, random thresholds
            image = image * (1 + torch.rand(()) + np.random.rand() + random.random())
        if context.step == self.recipe.tiny.poison:
            image = image * float("nan")
        return {"pixel": (pixel, valid.sum()), "image": image}


def run_in(out: Path, recipe: TinyRecipe = TINY, **flags) -> Train:
    """Train a tiny stage in a folder, a checkpoint after each step."""
    flags = {"device": "cpu", "quiet": True, "picture_every": 0, "save_every": 0.0, **flags}
    run = Train(out, **flags)
    train(Tiny(recipe), "tiny", run)
    return run


def forked(out: Path, recipe: TinyRecipe) -> int:
    """Start a training in a child process; returns its id."""
    child = os.fork()
    if child == 0:
        try:
            run_in(out, recipe)
            os._exit(0)
        except Interrupted as stop:
            os._exit(128 + stop.args[0])
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return child


def main(folder: Path, kills: int) -> None:
    """Train once in peace and once under fire: SIGKILL, and now and then SIGTERM."""
    torch.set_num_threads(1)
    recipe = change(TINY, dropout=0.4, steps=60)
    begin = time.monotonic()
    assert os.waitpid(forked(folder / "peace", recipe), 0)[1] == 0
    duration = time.monotonic() - begin
    rng = random.Random(0)
    ends = []
    while True:
        child = forked(folder / "fire", recipe)
        if len(ends) < kills:
            time.sleep(rng.uniform(0, duration / kills))
            os.kill(child, signal.SIGTERM if len(ends) % 5 == 4 else signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if status == 0:
            break
        ends.append(status)
    print("killed", len(ends))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
