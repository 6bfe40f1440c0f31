"""Time SEC's training step beside a plain float32 step with a CRF for each image in turn.

    python -m benchmark.train_step                  CPU: small network, 80 x 80, batch 16
    python -m benchmark.train_step --device cuda    published network, 321 x 321, batch 15

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

import densecrf
from base.contract import Context
from benchmark.timing import medians, report
from datalist.spec import VOC, Spec
from method.refinement import Refinement
from method.sec import SEC
from utils.loop import seed_everything
from utils.solver import build_optimizer
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
    """The same losses without what makes the step fast: the CRF of one image after the other."""

    def __init__(self, recipe, spec):
        super().__init__(recipe, spec)
        self.refinement = PlainRefinement(recipe.train_crf)


class PlainRefinement(Refinement):
    """CRF marginals of one image after the other, while nothing else runs."""

    def marginals(self, image: Tensor, logit: Tensor) -> Tensor:
        small = torch.nn.functional.interpolate(
            image.float(), size=logit.shape[-2:], mode="bilinear", align_corners=True
        )
        small = small.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        pairs = zip(-logit.detach().cpu().numpy(), small)
        steps = self.config.crf_steps
        marginals = [single_crf(energy, picture, self.kernels, steps) for energy, picture in pairs]
        return torch.from_numpy(np.stack(marginals)).to(logit.device)

    def start(self, image: Tensor, logit: Tensor, context: Context):
        with context.timer("crf"):
            target = self.marginals(image, logit)
        return lambda: target


def single_crf(energy: np.ndarray, image: np.ndarray, kernels, steps: int) -> np.ndarray:
    """Marginals (C, h, w) of one image with the original dense CRF, if it is installed."""
    try:
        from pydensecrf import densecrf as original
    except ImportError:
        return densecrf.mean_field(energy, image, kernels, steps, threads=1)
    classes, height, width = energy.shape
    crf = original.DenseCRF2D(width, height, classes)
    crf.setUnaryEnergy(np.ascontiguousarray(energy.reshape(classes, -1)))
    near, alike = kernels
    crf.addPairwiseGaussian(sxy=near.sxy, compat=near.compat)
    picture = np.ascontiguousarray(image)
    crf.addPairwiseBilateral(sxy=alike.sxy, srgb=alike.srgb, rgbim=picture, compat=alike.compat)
    return np.array(crf.inference(steps)).reshape(classes, height, width)


def draw(recipe, grid: tuple[int, int], seed: int, device: str) -> dict[str, Tensor]:
    """A batch of blobs of colour, each with the tag and cues of its colour's class."""
    rng = np.random.default_rng(seed)
    batch, size = recipe.solver.batch, recipe.data.size
    classes = rng.integers(1, len(VOC), batch)
    tag = np.eye(len(VOC), dtype=np.float32)[classes][:, 1:]
    image = rng.integers(0, 80, (batch, 3, *size)).astype(np.uint8)
    cue = np.zeros((batch, len(VOC), *grid), bool)
    height, width = size
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
    """A stage with its optimizer that takes steps on drawn batches.

    Args:
        stage_type: SEC or Plain.
        recipe: of SEC.
        flags: device and compilation.
        bfloat16: precision of the network.
        seed: of the weights.
    """

    def __init__(self, stage_type: type[SEC], recipe, flags: Flags, bfloat16: bool, seed: int = 0):
        seed_everything(seed)
        self.stage = stage_type(recipe, SPEC)
        network, fast = self.stage.network, stage_type is SEC
        layout = torch.channels_last if fast else torch.contiguous_format
        network.to(torch.device(flags.device), memory_format=layout)
        self.context = Context(bfloat16=bfloat16)
        if fast and flags.compile:
            self.context.replica = torch.compile(network)
        cuda = torch.device(flags.device).type == "cuda"
        self.optimizer = build_optimizer(recipe.solver, self.stage.groups(), fused=fast and cuda)
        for group in [] if fast else self.optimizer.param_groups:
            group["foreach"] = False  # one kernel a parameter
        image = torch.zeros(1, 3, *recipe.data.size, device=flags.device)
        with torch.no_grad():
            grid = tuple(network.eval()(image).shape[-2:])
        network.train()
        self.batches = [draw(recipe, grid, seed, flags.device) for seed in range(8)]
        self.timer = Timer(torch.device(flags.device))

    def step(self) -> float:
        """One step; returns the loss."""
        count = self.context.step
        seed_everything(1, count)
        batch = self.batches[count % len(self.batches)]
        with self.timer.part("losses"):
            total = sum(self.stage.losses(batch, self.context).values())
        self.optimizer.zero_grad(set_to_none=True)
        with self.timer.part("backward"):
            total.backward()
        with self.timer.part("optimizer"):
            self.optimizer.step()
        self.context.step += 1
        return total.item()


def compare(recipe, flags: Flags, steps: int) -> dict[str, float]:
    """Where the loss ends in float32 from two seeds and in bfloat16, mean of the last tenth.

    Stops the program where bfloat16 is further from float32 than noise: three times what the other
    seed changes, or 3 % of the loss where the seeds happen to agree.
    """
    runs = {"float32": (False, 0), "float32_other_seed": (False, 1), "bfloat16": (True, 0)}
    ends = {}
    for name, (bfloat16, seed) in runs.items():
        runner = Stepper(SEC, recipe, flags, bfloat16, seed)
        losses = [runner.step() for _ in range(steps)]
        ends[f"end_loss_{name}"] = float(np.mean(losses[-max(1, steps // 10) :]))
    plain, other, low = ends.values()
    noise = max(3 * abs(other - plain), 0.03 * abs(plain))
    if abs(low - plain) > noise:
        sys.exit(f"bfloat16 ends at a loss of {low}, float32 at {plain} and {other}.")
    return ends


def main(flags: Flags) -> None:
    cuda = torch.device(flags.device).type == "cuda"
    if cuda and not torch.cuda.is_available():
        sys.exit("no GPU at hand: this machine has no CUDA device")
    name = flags.recipe or ("paper" if cuda else "small")
    # Random weights time as well as trained ones, and need no network.
    recipe = SEC.recipes[name]
    recipe = replace(
        recipe,
        backbone=replace(recipe.backbone, weights="none"),
        head=replace(recipe.head, dropout=0.0),
        solver=replace(recipe.solver, warmup=0),
    )
    times = 30 if cuda and flags.times == 5 else flags.times

    ours, plain = Stepper(SEC, recipe, flags, cuda), Stepper(Plain, recipe, flags, False)
    first, other = ours.step(), plain.step()
    if abs(first - other) > (0.05 if cuda else 1e-3) * abs(other):
        sys.exit(f"The two steps disagree: their first losses are {first} and {other}.")
    theirs, seconds = medians((plain.step, ours.step), times, flags.device)
    ours.context.timer = ours.timer.part  # its borders cost overlap, so not while timing
    ours.timer.seconds.clear()
    for _ in range(3):
        ours.step()
    print(ours.timer.table(3))
    spent = ours.timer.seconds
    numbers = {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "recipe": name,
        "threads": torch.get_num_threads(),
        "images_a_second_ours": recipe.solver.batch / seconds,
        "images_a_second_plain": recipe.solver.batch / theirs,
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
