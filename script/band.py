"""Check that a score lies in a band: exit code 1 if it does not.

python -m script.band SCORE LOW HIGH      such as out/quickstart/score.json 65 80
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import tyro

from base import UserError, entry


@dataclass(frozen=True)
class Flags:
    score: tyro.conf.Positional[Path]
    """score.json of evaluate.py."""
    low: tyro.conf.Positional[float]
    """Smallest mIoU, percent."""
    high: tyro.conf.Positional[float]
    """Largest mIoU, percent."""


def main(flags: Flags) -> None:
    try:
        miou = float(json.loads(flags.score.read_text("utf-8"))["miou"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{flags.score} is no score.json of evaluate.py") from None
    if not flags.low <= miou <= flags.high or math.isnan(miou):
        raise UserError(f"mIoU {miou:.2f} is not between {flags.low:g} and {flags.high:g}")
    print(f"mIoU {miou:.2f} is between {flags.low:g} and {flags.high:g}")


if __name__ == "__main__":
    with entry():
        main(tyro.cli(Flags, description=__doc__))
