"""Optimiser and learning-rate policy of a recipe's solver."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from base.recipe import Solver


def build_optimizer(solver: Solver, groups: list[dict], fused: bool) -> torch.optim.Optimizer:
    """The solver's optimiser over parameter groups; `fused` runs one kernel for all of them."""
    if solver.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=solver.lr, fused=fused)
    return torch.optim.SGD(groups, lr=solver.lr, momentum=solver.momentum, fused=fused)


def rate_factor(solver: Solver, steps: int) -> Callable[[int], float]:
    """The learning rate's factor at each step of a training of `steps` steps."""

    def factor(step: int) -> float:
        if step < solver.warmup:
            return (step + 1) / solver.warmup
        left = max(0.0, 1 - step / max(1, steps))
        if solver.policy == "poly":
            return left**0.9
        if solver.policy == "cosine":
            return 0.5 - 0.5 * math.cos(math.pi * left)
        return solver.decay_factor ** (step // solver.decay_every)

    return factor


def build_schedule(
    solver: Solver, optimizer: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """The solver's learning-rate policy, to be stepped once an optimiser step."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, rate_factor(solver, steps))
