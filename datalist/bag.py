"""Tiles of large pictures whose tags are those of the whole picture.

A data set may have bags.csv beside tags.csv: a header `id,bag`, then for each tile its image id and
the name of its picture, any text. Tiles of one picture are a bag: each of its tags is true of some
tile, not of every one. Images without a row are whole pictures.
"""

import csv
from collections.abc import Mapping, Sequence

import numpy as np

from base import UserError
from datalist.spec import Spec, read_text, safe_id

BAGS_FILE = "bags.csv"


def read_bags(
    spec: Spec, ids: Sequence[str], tags: Mapping[str, tuple[int, ...]]
) -> np.ndarray | None:
    """Number of the bag of each image, int64 (N,); None where the data set has no bags.

    Raises:
        UserError: a line that is not `ID,BAG`, an id that comes twice, or tiles of one bag with
            other tags.
    """
    path = spec.root / BAGS_FILE
    if not path.is_file():
        return None
    try:
        _, *rows = csv.reader(read_text(path).splitlines())
    except (csv.Error, ValueError):
        raise UserError(f"{path} is not a table: needed is a header id,bag and rows") from None
    names: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        if len(row) != 2 or safe_id(row[0]) in names:
            reason = "the id comes twice" if len(row) == 2 else "the line is not 'ID,BAG'"
            raise UserError(f"{path}, line {number}: {reason}")
        names[row[0]] = row[1]
    bags: dict[tuple[str, bool], tuple[int, str]] = {}
    numbers = np.zeros(len(ids), np.int64)
    for index, name in enumerate(ids):
        key = (names.get(name, name), name in names)
        numbers[index], other = bags.setdefault(key, (len(bags), name))
        if tags[name] != tags[other]:
            raise UserError(
                f"{path}: '{other}' and '{name}' are tiles of one picture, whose tags they must "
                f"both have; where '{name}' has tags of its own, take its line out"
            )
    return numbers
