"""Answers of a person about maps: which groups of cells are the object, and how large it is.

Maps of tags mark what always comes along with a class, too: the water around boats. Cells of a
class's maps that look alike make a *group*, and a person says of a group whether it is the object.
`GroupFile` keeps the group of each cell; `read_answers` reads what the person said:

    class,group,answer
    boat,1,not             this group is not the boat
    boat,2,both            partly; then its halves have answers of their own
    boat,2a,object
    boat,2b,not
    boat,size,small        speck, small, half or most of the picture

A line `# maps CHECKSUM`, which the page of questions writes, tells which maps the groups are from.
"""

import csv
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from base import UserError
from datalist.archive import read_npz, write_npz
from datalist.folder import write_csv
from datalist.spec import plain, read_text

NONE = 255
"""Code of cells without a group."""
Answer = Literal["object", "not", "both"]
Size = Literal["speck", "small", "half", "most"]
SHARES: dict[Size, tuple[float, float]] = {
    "speck": (0.0, 0.01),
    "small": (0.01, 0.15),
    "half": (0.15, 0.4),
    "most": (0.4, 1.0),
}
"""Shares of an image between which a class of each size usually covers it (ours)."""


@dataclass(frozen=True)
class Answers:
    """What a person said."""

    path: Path
    groups: Mapping[tuple[int, str], Answer] = field(default_factory=dict)
    """Class index and group ("1", or "1a" and "1b" for its halves) -> answer."""
    sizes: Mapping[int, Size] = field(default_factory=dict)
    """Class index -> size."""
    maps: str = ""
    """Checksum of the maps; empty where the file does not say it."""


@dataclass(frozen=True, eq=False)
class GroupFile:
    """Groups of the cells of all maps.

    Args:
        codes: image id and class index -> uint8 (h, w): twice the group, counted from 0, plus 1 in
            its second half; `NONE` where the map is low.
        source: checksum of what the groups are made from.
        contrast: whether they are regions of map x contrast, and not cells of the maps.
        asked: class index and group, counted from 1, of the questions.
    """

    path: Path
    classes: tuple[str, ...]
    codes: Mapping[tuple[str, int], NDArray[np.uint8]]
    source: str = ""
    asked: Sequence[tuple[int, int]] = ()
    contrast: bool = False

    @property
    def checksum(self) -> str:
        """Eight hexadecimal digits that change with any group."""
        checksum = 0
        for (name, index), code in sorted(self.codes.items()):
            checksum = zlib.crc32(f"{name} {index} {code.shape}".encode(), checksum)
            checksum = zlib.crc32(code.tobytes(), checksum)
        return f"{checksum:08x}"

    def write(self) -> None:
        """Write the file, whole or not at all."""
        keys = sorted(self.codes)
        shapes = [self.codes[key].shape for key in keys]
        flat = np.concatenate([np.empty(0, np.uint8), *(self.codes[key].ravel() for key in keys)])
        arrays = {
            "source": np.array([self.source]), "contrast": np.array([self.contrast], np.uint8),
            "asked": np.array(self.asked, np.int64).reshape(-1, 2),
            "classes": np.array(self.classes),
            "id": np.array([name for name, _ in keys], dtype=str),
            "index": np.array([index for _, index in keys], np.int64),
            "shape": np.array(shapes, np.int64).reshape(-1, 2),
            "inside": np.packbits(flat != NONE), "code": flat[flat != NONE],  # most have no group
        }  # fmt: skip
        write_npz(self.path, arrays)

    @classmethod
    def read(cls, path: Path) -> "GroupFile":
        """Read a file that `write` wrote.

        Raises:
            UserError: there is no such file, or it is damaged.
        """
        if not path.is_file():
            raise UserError(
                f"no groups of cells in {path}: run without answers, and answer its page"
            )
        wanted = dict.fromkeys(("source", "classes", "id"), ("U", 1))
        wanted |= {"asked": ("iu", 2), "index": ("iu", 1), "shape": ("iu", 2)}
        wanted |= dict.fromkeys(("contrast", "inside", "code"), ("u", 1))
        stored = read_npz(path, wanted)
        shapes, inside = stored["shape"], np.unpackbits(stored["inside"]).astype(bool)
        count, total = len(stored["id"]), int(shapes.prod(1).sum())
        whole = shapes.shape == (count, 2) and len(stored["index"]) == count and (shapes > 0).all()
        if not whole or len(inside) != -(-total // 8) * 8 or inside.sum() != len(stored["code"]):
            raise UserError(f"{path}: its arrays do not fit together: make it again")
        flat = np.full(len(inside), NONE, np.uint8)
        flat[inside] = stored["code"]
        parts = np.split(flat, np.cumsum(shapes.prod(1)))
        keys = zip(stored["id"].tolist(), stored["index"].tolist())
        codes = {key: part.reshape(shape) for key, part, shape in zip(keys, parts, shapes)}
        asked = [tuple(row[:2]) for row in stored["asked"].tolist()]
        classes, source = tuple(stored["classes"].tolist()), str(*stored["source"][:1])
        return cls(path, classes, codes, source, asked, bool(stored["contrast"].any()))


class Rejection:
    """Pixels that a person says are not their class.

    Raises:
        UserError: the answers are about other maps, or about a group that does not exist.
    """

    def __init__(self, groups: GroupFile, answers: Answers):
        if answers.maps and answers.maps != groups.checksum:
            raise UserError(
                f"{answers.path} answers questions about other maps (# maps {answers.maps}; "
                f"those here are {groups.checksum}): answer the new page of questions"
            )
        self.groups = groups
        self.wrong = {index: np.zeros(256, bool) for _, index in groups.codes}
        known = {index: set[int]() for index in self.wrong}
        for (_, index), code in groups.codes.items():
            known[index].update((np.unique(code[code != NONE]) // 2).tolist())
        for (index, group), answer in answers.groups.items():
            number, half = int(group.rstrip("ab")) - 1, group.lstrip("0123456789")
            if number not in known.get(index, ()):
                last = 1 + max(known.get(index, ()), default=-1)
                raise UserError(
                    f"{answers.path}: {groups.classes[index]} has no group {number + 1}, its "
                    f"groups are 1 to {last}"
                )
            if answer == "not":
                for letter in half or "ab":
                    self.wrong[index][2 * number + "ab".index(letter)] = True

    @property
    def checksum(self) -> str:
        """Eight hexadecimal digits that change with what is rejected; sizes have no part in it."""
        rejected = [(k, np.flatnonzero(row).tolist()) for k, row in sorted(self.wrong.items())]
        content = f"{self.groups.checksum} {rejected}"
        return f"{zlib.crc32(content.encode()):08x}"

    def pixels(self, image_id: str, index: int, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Pixels whose group, or the nearest one, is not the class, bool (height, width)."""
        code = self.groups.codes.get((image_id, index))
        if code is None or (code == NONE).all():
            return np.zeros(size, bool)
        # The CRF marks some pixels where the map is low.
        _, (row, column) = ndimage.distance_transform_edt(code == NONE, return_indices=True)
        wrong = self.wrong[index][code[row, column]].view(np.uint8)
        return cv2.resize(wrong, size[::-1], interpolation=cv2.INTER_NEAREST).astype(bool)


def write_answers(
    path: Path, classes: Sequence[str], answers: Mapping[tuple[int, str], str], maps: str = ""
) -> None:
    """Write answers.csv; `answers` are those of each class index and group, or "size"."""
    rows = [[classes[index], group, answer] for (index, group), answer in answers.items()]
    write_csv(path, [f"# maps {maps}"], [["class", "group", "answer"], *rows])


def read_answers(path: Path, classes: Sequence[str]) -> Answers:
    """Read answers.csv.

    Raises:
        UserError: it cannot be read; a line names an unknown class, group or answer; or two lines
            contradict each other.
    """
    indices = {plain(name): number for number, name in enumerate(classes) if number}
    said: dict[tuple[int, str], str] = {}
    maps = ""
    for number, row in enumerate(csv.reader(read_text(path).splitlines()), 1):
        row = [field.strip() for field in row]
        where = f"{path}, line {number}"
        if match := re.fullmatch(r"# maps ([0-9a-f]{8})", ",".join(row)):
            maps = match[1]
        if not any(row) or row[0].startswith("#") or row == ["class", "group", "answer"]:
            continue
        if len(row) != 3:
            raise UserError(f"{where}: write CLASS,GROUP,ANSWER, such as boat,1,not")
        name, group, answer = row
        index = indices.get(plain(name))
        if index is None:
            raise UserError(f"{where}: {name[:80]!r} is not a class ({', '.join(classes[1:9])})")
        if not re.fullmatch(r"[1-9][0-9]{0,2}[ab]?|size", group):
            raise UserError(f"{where}: {group[:20]!r} is not a group, such as 1 or 1a, or size")
        allowed = get_args(Size if group == "size" else Answer)
        if answer not in allowed:
            raise UserError(f"{where}: the answer is one of {', '.join(allowed)}")
        if (other := said.setdefault((index, group), answer)) != answer:
            raise UserError(f"{where}: {name} {group} is {other} in a line above")
    sizes = {index: size for (index, group), size in said.items() if group == "size"}
    groups = {key: answer for key, answer in said.items() if key[1] != "size"}
    for (index, group), answer in groups.items():
        number = group.rstrip("ab")
        whole = groups.get((index, number), "both")
        if whole not in ("both", answer):
            name = f"{path}: {classes[index]} {group}"
            raise UserError(f"{name} is {answer}, but {number} is {whole}")
    return Answers(path, groups, sizes, maps)
