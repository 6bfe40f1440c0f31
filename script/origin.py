"""Print the data set of a checkpoint or of a folder of predictions, and below it its root.

python -m script.origin PATH
"""

from pathlib import Path
from typing import Annotated

import tyro

from base import UserError, entry
from utils.record import read_origin


def origin(path: Path) -> tuple[str, str]:
    """Data set and root of a checkpoint, or of a folder that test.py or pseudo.py wrote into.

    Raises:
        UserError: the folder does not say, or the checkpoint cannot be read.
    """
    if path.is_dir():
        found = read_origin(path)
        if not found:
            raise UserError(f"{path} does not say which data set it belongs to: set DATASET")
    else:
        from utils.checkpoint import load  # imports torch

        found = load(path)["recipe"].get("data", {})
    return found.get("dataset") or "", found.get("root") or ""


def main(path: Annotated[Path, tyro.conf.Positional]) -> None:
    """Print the data set, and its root on the next line.

    Args:
        path: checkpoint, or folder of predictions
    """
    print(*origin(path), sep="\n")


if __name__ == "__main__":
    with entry():
        tyro.cli(main)
