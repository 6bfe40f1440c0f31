"""What the programs in this folder share: the stages of a run's checkpoints."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from base import UserError
from method.restore import restore
from utils import checkpoint


def open_steps(run: Path) -> Iterator[tuple[int, Any]]:
    """Steps and stages of the checkpoints of a run, ready to predict on the CPU.

    Raises:
        UserError: the folder holds none.
    """
    paths = [*sorted(run.glob("step-*.pt")), *run.glob("last.pt")]
    if not paths:
        raise UserError(f"{run} holds no checkpoint of train.py")
    before = None
    for path in paths:
        content = checkpoint.load(path)
        if content["step"] != before:
            before = content["step"]
            stage = restore(path, content)
            stage.network.eval()
            yield before, stage
