"""Time SEC's training step beside a plain float32 step with a CRF for each image in turn.

    python benchmark/train_step.py                  CPU: small network, 80 x 80, batch 16
    python benchmark/train_step.py --device cuda    published network, 321 x 321, batch 15

Ours: bfloat16 on CUDA, channels last, fused optimizer, batched CRF beside the other losses. Plain:
float32, contiguous, one kernel a parameter, the CRF of one image after the other as the released
port has it (through pydensecrf2 where installed, else our own with one thread). The losses of the
first step of both must agree. `--compare N` trains N steps in both precisions, in float32 from two
seeds, and compares where their losses end: bfloat16 must end as near to float32 as a seed does.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from timing import medians, report

import densecrf
from datalist.spec import VOC, Spec
from method.sec import SEC
from utils.loop import seed_everything
from utils.timer import Timer

SPEC = Spec(name="drawn", root=Path("."), classes=VOC, lists={})


@dataclass(frozen=True)
class Flags:
    device: str = "cpu"
    """cpu or cuda."""
    recipe: str = ""
    """Recipe of SEC; empty: paper on CUDA, small on CPU."""
    times: int = 5
    """Steps to take the median of; 30 on CUDA."""
    compare: int = -1
    """Steps after which the losses of bfloat16 and float32 are compared; 0: not; -1: 200 on CUDA,
    not on CPU, where bfloat16 is slow."""
    compile: bool = False
    """Compile our network."""
    json: Path | None = None
    """File for the numbers."""


class Plain(SEC):
    """The same losses without what makes the step fast."""

    def to(self, device: torch.device) -> "Plain":
        self.device = torch.device(device)
        self.network.to(self.device)
        return self

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image)

    def optimizer(self) -> torch.optim.Optimizer:
        kind = torch.optim.AdamW if self.recipe.optimizer == "adamw" else torch.optim.SGD
        more = {} if kind is torch.optim.AdamW else {"momentum": self.recipe.momentum}
        return kind(self.groups(), lr=self.recipe.lr, foreach=False, fused=False, **more)

    def marginals(self, image: Tensor, logit: Tensor) -> Tensor:
        small = torch.nn.functional.interpolate(
            image.float(), size=logit.shape[-2:], mode="bilinear", align_corners=True
        )
        small = small.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        pairs = zip(-logit.detach().cpu().numpy(), small)
        found = [one_crf(energy, picture, self.preset) for energy, picture in pairs]
        return torch.from_numpy(np.stack(found)).to(logit.device)


def one_crf(energy: np.ndarray, image: np.ndarray, preset: densecrf.Preset) -> np.ndarray:
    """Marginals (C, h, w) of one image with the original dense CRF, if it is installed."""
    try:
        from pydensecrf import densecrf as original
    except ImportError:
        return densecrf.mean_field(energy, image, preset.kernels, preset.steps, threads=1)
    classes, height, width = energy.shape
    crf = original.DenseCRF2D(width, height, classes)
    crf.setUnaryEnergy(np.ascontiguousarray(energy.reshape(classes, -1)))
    near, alike = preset.kernels
    crf.addPairwiseGaussian(sxy=near.sxy, compat=near.compat)
    picture = np.ascontiguousarray(image)
    crf.addPairwiseBilateral(sxy=alike.sxy, srgb=alike.srgb, rgbim=picture, compat=alike.compat)
    return np.array(crf.inference(preset.steps)).reshape(classes, height, width)


def draw(recipe, grid: tuple[int, int], seed: int, device: str) -> dict[str, Tensor]:
    """A batch of blobs of colour, each with the tag and cues of its colour's class."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(1, len(VOC), recipe.batch)
    tag = np.eye(len(VOC), dtype=np.float32)[classes][:, 1:]
    image = rng.integers(0, 80, (recipe.batch, 3, *recipe.size)).astype(np.uint8)
    cue = np.zeros((recipe.batch, len(VOC), *grid), bool)
    height, width = recipe.size
    for index, number in enumerate(classes):
        colour = np.array([number % 3, number // 3 % 3, number // 9]) * 60 + 90
        middle = (slice(height // 4, 3 * height // 4), slice(width // 4, 3 * width // 4))
        image[index][:, middle[0], middle[1]] += colour.astype(np.uint8)[:, None, None]
        inner = (slice(grid[0] // 3, 2 * grid[0] // 3), slice(grid[1] // 3, 2 * grid[1] // 3))
        cue[index, number][inner] = True
        cue[index, 0, 0] = True
    parts = {"image": image, "tag": tag, "cue": cue}
    return {key: torch.from_numpy(value).to(device) for key, value in parts.items()}


class Stepper:
    """A stage with its optimizer that takes steps on drawn batches."""

    def __init__(self, kind: type[SEC], recipe, flags: Flags, half: bool, seed: int = 0):
        seed_everything(seed)
        self.stage = kind(recipe, SPEC)
        self.stage.to(torch.device(flags.device))
        self.stage.half = half
        if flags.compile and kind is SEC:
            self.stage.replica = torch.compile(self.stage.network)
        self.optimizer = self.stage.optimizer()
        self.stage.network.train()
        size = torch.zeros(1, 3, *recipe.size, device=flags.device)
        with torch.no_grad():
            grid = tuple(self.stage.network.eval()(size).shape[-2:])
        self.stage.network.train()
        self.batches = [draw(recipe, grid, seed, flags.device) for seed in range(8)]
        self.timer = Timer(torch.device(flags.device))
        self.count = 0

    def step(self) -> float:
        """One step; returns the loss."""
        seed_everything(1, self.count)
        batch = self.batches[self.count % len(self.batches)]
        with self.timer.part("losses"):
            total = sum(self.stage.losses(batch, self.count).values())
        self.optimizer.zero_grad(set_to_none=True)
        with self.timer.part("backward"):
            total.backward()
        with self.timer.part("optimizer"):
            self.optimizer.step()
        self.count += 1
        return total.item()


def compare(recipe, flags: Flags, steps: int) -> dict[str, float]:
    """Where the loss ends in float32 from two seeds and in bfloat16, mean of the last tenth.

    Stops the program where bfloat16 is further from float32 than noise: three times what the other
    seed changes, or 3 % of the loss where the seeds happen to agree.
    """
    runs = {"float32": (False, 0), "float32_other_seed": (False, 1), "bfloat16": (True, 0)}
    ends = {}
    for name, (half, seed) in runs.items():
        runner = Stepper(SEC, recipe, flags, half, seed)
        losses = [runner.step() for _ in range(steps)]
        ends[f"end_loss_{name}"] = float(np.mean(losses[-max(1, steps // 10) :]))
    plain, other, half = ends.values()
    noise = max(3 * abs(other - plain), 0.03 * abs(plain))
    if abs(half - plain) > noise:
        sys.exit(f"bfloat16 ends at a loss of {half}, float32 at {plain} and {other}.")
    return ends


def main(flags: Flags) -> None:
    cuda = torch.device(flags.device).type == "cuda"
    if cuda and not torch.cuda.is_available():
        sys.exit("no GPU at hand: this machine has no CUDA device")
    name = flags.recipe or ("paper" if cuda else "small")
    # Random weights time as well as trained ones, and need no network.
    recipe = replace(SEC.recipes[name], weights="none", dropout=0.0, warmup=0)
    times = 30 if cuda and flags.times == 5 else flags.times

    ours, plain = Stepper(SEC, recipe, flags, half=cuda), Stepper(Plain, recipe, flags, half=False)
    first, other = ours.step(), plain.step()
    if abs(first - other) > (0.05 if cuda else 1e-3) * abs(other):
        sys.exit(f"The two steps disagree: their first losses are {first} and {other}.")
    theirs, seconds = medians((plain.step, ours.step), times, flags.device)
    ours.stage.part = ours.timer.part  # its borders cost overlap, so not while timing
    ours.timer.seconds.clear()
    for _ in range(3):
        ours.step()
    print(ours.timer.table(3))
    spent = ours.timer.seconds
    numbers = {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "recipe": name,
        "threads": torch.get_num_threads(),
        "images_a_second_ours": recipe.batch / seconds,
        "images_a_second_plain": recipe.batch / theirs,
        "ratio": theirs / seconds,
        "crf_percent_of_step": 100 * spent.get("crf", 0.0) / sum(spent.values()),
        "first_loss_ours": first,
        "first_loss_plain": other,
    }
    steps = flags.compare if flags.compare >= 0 else 200 * cuda
    if steps:
        numbers |= compare(recipe, flags, steps)
    report(numbers, flags.json)


if __name__ == "__main__":
    main(tyro.cli(Flags, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)))
