"""Time SEC's three losses, forward and backward, beside the way the PyTorch port computes them.

    python -m benchmark.losses [--device cuda] [--json FILE]

The port sorts every class map of every image, present or not. Values and gradients of both must
agree in the same run.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor

from benchmark.timing import medians, report
from loss import constrain_loss, expand_loss, floor_softmax, seed_loss

FOREGROUND, BACKGROUND = 0.996, 0.999


@dataclass(frozen=True)
class Flags:
    batch: int = 15
    """Images."""
    classes: int = 21
    """Classes with background."""
    grid: int = 41
    """Side of the score maps."""
    times: int = 31
    """Calls to take the median of."""
    device: str = "cpu"
    """cpu or cuda."""
    json: Path | None = None
    """File for the numbers."""


def draw(flags: Flags) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, tags (1.5 an image), cues and marginals."""
    generator = torch.Generator().manual_seed(0)
    shape = (flags.batch, flags.classes, flags.grid, flags.grid)
    logit = 3 * torch.randn(shape, generator=generator)
    tag = torch.zeros(flags.batch, flags.classes - 1)
    tag[torch.arange(flags.batch), torch.arange(flags.batch) % (flags.classes - 1)] = 1
    tag[::2, -1] = 1
    drawn = torch.rand(shape, generator=generator) < 0.2
    cue = drawn & torch.cat((torch.ones(flags.batch, 1), tag), 1)[:, :, None, None].bool()
    marginal = torch.softmax(logit + torch.randn(shape, generator=generator), 1)
    return tuple(x.to(flags.device) for x in (logit, tag, cue, marginal))


def ours(logit: Tensor, tag: Tensor, cue: Tensor, marginal: Tensor) -> Tensor:
    score = floor_softmax(logit)
    return (
        seed_loss(score, cue)
        + expand_loss(score, tag, FOREGROUND, BACKGROUND)
        + constrain_loss(score, marginal)
    )


def port(logit: Tensor, tag: Tensor, cue: Tensor, marginal: Tensor) -> Tensor:
    """The three formulas with all classes sorted, and masks instead of selections."""
    score = torch.softmax(logit, 1) + 1e-4
    score = score / score.sum(1, keepdim=True)
    cue = cue.float()
    seed = -((cue * score.log()).sum((1, 2, 3)) / cue.sum((1, 2, 3))).mean()

    flat = score.flatten(2)
    count = flat.shape[2]
    rank = torch.arange(count - 1, -1, -1, dtype=torch.float64, device=logit.device)
    front, behind = (q**rank for q in (FOREGROUND, BACKGROUND))
    front, behind = (front / front.sum()).float(), (behind / behind.sum()).float()
    foreground = (flat[:, 1:].sort(dim=2).values * front).sum(2)
    background = (flat[:, :1].sort(dim=2).values * behind).sum(2)
    peak = flat[:, 1:].max(2).values
    present = -(tag * foreground.log()).sum(1) / tag.sum(1)
    absent = -((1 - tag) * (1 - peak).log()).sum(1) / (1 - tag).sum(1)
    expand = (present + absent - background.log()[:, 0]).mean()

    target = marginal.clamp_min(1e-4)
    target = target / target.sum(1, keepdim=True)
    constrain = (target * (target / score).log()).sum(1).mean()
    return seed + expand + constrain


def main(flags: Flags) -> None:
    logit, *rest = draw(flags)

    def run(losses) -> tuple[Tensor, Tensor]:
        leaf = logit.clone().requires_grad_()
        value = losses(leaf, *rest)
        value.backward()
        return value.detach(), leaf.grad

    (value, gradient), (other, other_gradient) = run(ours), run(port)
    gap = (gradient - other_gradient).abs().max() / other_gradient.abs().max()
    if not torch.allclose(value, other, rtol=1e-5) or gap > 1e-4:
        sys.exit(f"The two ways disagree: {value} and {other}, gradients by {gap:.1e}.")
    calls = (lambda: run(ours), lambda: run(port))
    seconds, theirs = medians(calls, flags.times, flags.device)
    report(
        {
            "device": flags.device,
            "threads": torch.get_num_threads(),
            "milliseconds_ours": 1e3 * seconds,
            "milliseconds_port": 1e3 * theirs,
            "ratio": theirs / seconds,
            "largest_gradient_gap_relative": gap.item(),
        },
        flags.json,
    )


if __name__ == "__main__":
    main(tyro.cli(Flags, description=__doc__))
