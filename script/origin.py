"""Print the data set of a checkpoint or of a folder of predictions, and below it its root.

python -m script.origin PATH
"""

import shlex
import sys
from pathlib import Path

from base import UserError, entry
from utils import checkpoint
from utils.record import read_record


def origin(path: Path) -> tuple[str, str]:
    """Data set and root of a checkpoint, or of a folder that test.py wrote into.

    Errors: UserError for a folder without predict.json, or a checkpoint that cannot be read.
    """
    if path.is_dir():
        record = read_record(path / "predict.json")
        words = shlex.split(record.get("command", ""))
        if "--dataset" in words[:-1]:
            root = words[words.index("--root") + 1] if "--root" in words[:-1] else ""
            return words[words.index("--dataset") + 1], root
        if "checkpoint" not in record:
            raise UserError(f"{path} does not say which data set it belongs to: set DATASET")
        path = Path(record["checkpoint"])
    data = checkpoint.load(path)["recipe"].get("data", {})
    return data.get("dataset", ""), data.get("root", "")


if __name__ == "__main__":
    with entry():
        print(*origin(Path(sys.argv[1])), sep="\n")
