"""Print a Markdown table of one number over the seeds of an ablation.

    python -m script.study.table OUT "TITLE=FILE[#KEY]" ["TITLE=FILE[#KEY]" ...]

FILE is a JSON file in each folder OUT/seed*, or a folder with score.json; KEY (default miou) names
its number. Rows without any file are left out.
"""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

import tyro

from base import UserError, entry


@dataclass(frozen=True)
class Flags:
    out: tyro.conf.Positional[Path]
    """Folder of the ablation, with a folder seed* for each seed."""
    rows: tyro.conf.Positional[tuple[str, ...]]
    """TITLE=FILE[#KEY] of each row."""
    title: str = "mIoU"
    """What the numbers are."""


def read_number(run: Path, where: str) -> float | None:
    """The number that FILE#KEY names in a run; None where there is no such file."""
    file, _, key = where.partition("#")
    path = run / file
    path = path / "score.json" if path.is_dir() else path
    return json.loads(path.read_text())[key or "miou"] if path.is_file() else None


def main(flags: Flags) -> None:
    runs = sorted(flags.out.glob("seed*"))
    if not runs:
        raise UserError(f"{flags.out} has no folders seed*: run the ablation first")
    print(f"| {flags.title}, {len(runs)} seeds | mean | each |\n|---|---|---|")
    rows = [row.rpartition("=")[::2] for row in flags.rows]
    for title, where in rows:
        numbers = [n for run in runs if (n := read_number(run, where)) is not None]
        if numbers:
            each = ", ".join(f"{number:.1f}" for number in numbers)
            print(f"| {title} | {statistics.mean(numbers):.1f} | {each} |")


if __name__ == "__main__":
    with entry():
        main(tyro.cli(Flags, description=__doc__))
