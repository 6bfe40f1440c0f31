"""Where the time of a training step goes."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch


class Timer:
    """Adds up the wall time of named parts; a part inside another is not counted twice.

    The device's queue is emptied at the borders, so that its work counts where it was asked for.
    This costs some of the overlap that a run without a timer has.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds: dict[str, float] = {}
        self.inner: list[float] = []

    def now(self) -> float:
        """Seconds, once the device has caught up."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the block's time under `name`."""
        self.inner.append(0.0)
        start = self.now()
        try:
            yield
        finally:
            taken = self.now() - start
            own = taken - self.inner.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + own
            if self.inner:
                self.inner[-1] += taken

    def table(self, steps: int) -> str:
        """One line for each part: milliseconds a step and share."""
        total = sum(self.seconds.values())
        lines = [f"{'part of a step':16}{'ms':>10}{'share':>9}"]
        for name, seconds in [*self.seconds.items(), ("all", total)]:
            share = 100 * seconds / total if total else 0.0
            lines.append(f"{name:16}{1e3 * seconds / max(steps, 1):10.2f}{share:8.1f} %")
        return "\n".join(lines)
