"""Optimiser and learning-rate policy of a recipe's solver."""

import math
from collections.abc import Callable
from typing import Any

from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from base.recipe import Solver


class Several(Optimizer):
    """Optimisers that step together; the parameter groups are those of all of them."""

    def __init__(self, members: list[Optimizer]):
        self.members = members
        super().__init__([group for member in members for group in member.param_groups], {})

    def step(self, closure: None = None) -> None:
        for member in self.members:
            member.step()

    def state_dict(self) -> dict[str, Any]:
        return {"members": [member.state_dict() for member in self.members]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for member, state in zip(self.members, state_dict["members"], strict=True):
            member.load_state_dict(state)  # gives the member new groups
        self.param_groups = [group for member in self.members for group in member.param_groups]


def build_optimizer(solver: Solver, groups: list[dict], fused: bool = True) -> Optimizer:
    """The solver's optimiser over parameter groups, of which one may name another "optimizer"."""
    by_name: dict[str, list[dict]] = {}
    for group in groups:
        by_name.setdefault(group.get("optimizer", solver.optimizer), []).append(group)
    members: list[Optimizer] = []
    for name, own in by_name.items():
        if name == "adamw":
            members.append(AdamW(own, lr=solver.lr, fused=fused))
        else:
            members.append(SGD(own, lr=solver.lr, momentum=solver.momentum, fused=fused))
    return members[0] if len(members) == 1 else Several(members)


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


def build_schedule(solver: Solver, optimizer: Optimizer, steps: int) -> LambdaLR:
    """The solver's learning-rate policy, to be stepped once an optimiser step.

    A parameter group with "policy": "constant" keeps its learning rate.
    """
    factor = rate_factor(solver, steps)
    constant = [group.get("policy") == "constant" for group in optimizer.param_groups]
    factors = [(lambda step: 1.0) if still else factor for still in constant]
    return LambdaLR(optimizer, factors)
