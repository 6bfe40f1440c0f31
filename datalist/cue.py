"""Cue files: for each image, the grid cells that are labelled with a class.

A cue is bool (C, h, w): channel 0 is background; a cell may have several classes, most have none.
A cue file packs the cues of many images, keyed by image id, into one .npz of plain arrays:
`ids` (N,), `grid` (h, w), `num_classes`, `offset` (N + 1,) and `cell`; the cells of image i are
`cell[offset[i]:offset[i + 1]]`, each class * h * w + row * w + column.

`python -m datalist.cue --help` converts, packs, merges and shows such files.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from tyro.conf import Positional

from base import IGNORE, UserError, entry
from datalist.archive import read_npz, write_npz
from datalist.cell import resolve_conflicts
from datalist.image import read_mask
from datalist.pickled import read_cues
from datalist.spec import HERE, safe_id

CELL_LIMIT = 1 << 26
"""Largest C * h * w: 256 classes on a grid of 512 x 512."""
SEC_INDEX = HERE / "VOC2012" / "sec_cue_index.txt.gz"
"""Row numbers of the official SEC cue file: lines "NAME.jpg NUMBER"."""


@dataclass(eq=False)
class CueFile:
    """The cues of many images.

    Args:
        grid: (height, width) in cells.
        offset: int64 (N + 1,), where the cells of each image begin.
        cell: int32, class * h * w + row * w + column.

    Raises:
        UserError: these do not fit each other.
    """

    ids: tuple[str, ...]
    grid: tuple[int, int]
    num_classes: int
    offset: np.ndarray
    cell: np.ndarray
    source: str = "cues"

    def __post_init__(self) -> None:
        height, width = self.grid
        if min(height, width) < 1 or not 2 <= self.num_classes <= IGNORE:
            raise UserError(f"{self.source}: {self.num_classes} classes on {height} x {width}")
        cells = self.num_classes * height * width
        if cells > CELL_LIMIT:
            raise UserError(f"{self.source}: a grid of {height} x {width} cells is too large")
        offset, cell = self.offset, self.cell
        if len(offset) != len(self.ids) + 1 or offset[0] != 0 or offset[-1] != len(cell):
            raise UserError(f"{self.source} is damaged: offsets do not fit ids and cells")
        if np.any(offset[1:] < offset[:-1]):
            raise UserError(f"{self.source} is damaged: offsets do not ascend")
        if len(cell) and (cell.min() < 0 or cell.max() >= cells):
            raise UserError(f"{self.source} is damaged: a cell lies outside its grid")
        for name in self.ids:
            try:
                safe_id(name)
            except UserError as error:
                raise UserError(f"{self.source}: {error}") from None
        self.row = {name: row for row, name in enumerate(self.ids)}
        if len(self.row) != len(self.ids):
            raise UserError(f"{self.source} is damaged: an id comes twice")

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, name: object) -> bool:
        return name in self.row

    def _cells(self, name: str) -> np.ndarray:
        """Cells of an image; UserError where it has no entry."""
        if name not in self.row:
            raise UserError(f"{self.source} has no cue of image '{name}'")
        row = self.row[name]
        return self.cell[self.offset[row] : self.offset[row + 1]]

    def __getitem__(self, name: str) -> np.ndarray:
        """Cue of an image, bool (C, h, w); UserError where there is none."""
        cue = np.zeros(self.num_classes * self.grid[0] * self.grid[1], bool)
        cue[self._cells(name)] = True
        return cue.reshape(self.num_classes, *self.grid)

    def classes(self, name: str) -> list[int]:
        """Classes that have cues in an image, rising; UserError where the image has no entry."""
        return np.unique(self._cells(name) // (self.grid[0] * self.grid[1])).tolist()

    def items(self) -> Iterator[tuple[str, np.ndarray]]:
        """Id and cue of each image."""
        return ((name, self[name]) for name in self.ids)

    def __str__(self) -> str:
        height, width = self.grid
        area, count = height * width, len(self)
        index, position = np.divmod(self.cell, area)
        position = position + area * np.repeat(np.arange(count), np.diff(self.offset))
        background = (index == 0).sum() / (area * count)
        foreground = len(np.unique(position[index > 0])) / (area * count)
        several = (np.unique(position, return_counts=True)[1] > 1).sum()
        return (
            f"{count} images, {self.num_classes} classes, grid {height} x {width}\n"
            f"background cues cover {100 * background:.1f} % of the grid, "
            f"foreground cues {100 * foreground:.1f} %\n"
            f"{several} cells have several classes, "
            f"{(np.diff(self.offset) == 0).sum()} images have no cue"
        )

    @classmethod
    def collect(
        cls, cues: Iterable[tuple[str, np.ndarray]] | Mapping[str, np.ndarray], source: str = "cues"
    ) -> "CueFile":
        """Pack pairs of id and cue, bool (C, h, w), all of one shape."""
        ids, cells, shape = [], [], None
        for name, cue in cues.items() if isinstance(cues, Mapping) else cues:
            if cue.ndim != 3 or cue.dtype != bool:
                raise UserError(f"{source}: the cue of '{name}' is not a bool array (C, h, w)")
            if shape not in (None, cue.shape):
                raise UserError(f"{source}: the cue of '{name}' has shape {cue.shape}, not {shape}")
            shape = cue.shape
            ids.append(name)
            cells.append(np.flatnonzero(cue))
        if shape is None:
            raise UserError(f"{source} holds no cues")
        return cls.pack(tuple(ids), shape, cells, source)

    @classmethod
    def pack(cls, ids: tuple[str, ...], shape: tuple, cells: list[np.ndarray], source: str):
        """Pack the ascending numbers of the cells of each image; `shape` is (C, h, w)."""
        offset = np.cumsum([0, *map(len, cells)], dtype=np.int64)
        cell = np.concatenate(cells).astype(np.int32)
        return cls(ids, shape[1:], shape[0], offset, cell, source)

    @classmethod
    def open(
        cls, path: str | Path, num_classes: int | None = None, index: str | Path | None = None
    ) -> "CueFile":
        """Read cues from a file of any known format.

        Args:
            path: a packed cue file; a released pickle, .gz or not; a folder of one .npz per
                image, or of one PNG of class indices per image (255 = no cue).
            num_classes: classes, background counted. A packed file must agree; of others it is
                the largest class found, where not given.
            index: of a pickle keyed by number, the list "NAME.jpg NUMBER"; default SEC's own.

        Raises:
            UserError: the file is missing, damaged or none of these.
        """
        path = Path(path)
        if path.is_dir():
            return from_folder(path, num_classes)
        try:
            with open(path, "rb") as file:
                head = file.read(4)
        except OSError as error:
            raise UserError(f"cannot read cues {path}: {error.strerror}") from None
        if head[:2] == b"\x1f\x8b" or head[:1] == b"\x80":
            return from_pickle(path, num_classes, index)
        if head[:2] != b"PK":
            raise UserError(f"{path} is neither a packed cue file nor a pickle of cues")
        head = {"ids": ("U", 1), "grid": ("iu", 1), "num_classes": ("iu", 0)}
        arrays = read_npz(path, {**head, "offset": ("iu", 1), "cell": ("iu", 1)})
        grid = tuple(int(side) for side in arrays["grid"])
        count = int(arrays["num_classes"])
        if len(grid) != 2:
            raise UserError(f"{path} is damaged: its grid is {grid}")
        if num_classes not in (None, count):
            raise UserError(
                f"{path} holds cues of {count} classes, but the data set has {num_classes} "
                "(background counted)"
            )
        ids = tuple(arrays["ids"].tolist())
        return cls(ids, grid, count, arrays["offset"], arrays["cell"], str(path))

    def write(self, path: str | Path) -> "CueFile":
        """Write a packed cue file, whole or not at all."""
        arrays = {"ids": np.array(self.ids, dtype=np.str_), "grid": np.array(self.grid, np.int64)}
        arrays |= {"num_classes": np.array(self.num_classes, np.int64)}
        arrays |= {"offset": self.offset.astype(np.int64), "cell": self.cell.astype(np.int32)}
        write_npz(path, arrays)
        return self


def from_cells(
    cells: Mapping[str, np.ndarray], grid: tuple[int, int], num_classes: int, source: str
) -> CueFile:
    """Pack cells, int (3, K) of class, row and column, of each image id.

    Raises:
        UserError: naming `source` and the image, where a cell lies outside.
    """
    shape = (num_classes, *grid)
    if num_classes * grid[0] * grid[1] > CELL_LIMIT:
        raise UserError(f"{source}: a grid of {grid} cells is too large")
    flat = []
    for name, cell in cells.items():
        if cell.ndim != 2 or len(cell) != 3:
            raise UserError(f"{source}: the cells of '{name}' are {cell.shape}, not (3, K)")
        try:
            flat.append(np.unique(np.ravel_multi_index(cell.astype(np.int64), shape)))
        except ValueError:
            where = f"{num_classes} classes on {grid}"
            raise UserError(f"{source}: a cell of '{name}' lies outside {where}") from None
    return CueFile.pack(tuple(cells), shape, flat, source)


def from_pickle(
    path: Path, num_classes: int | None = None, index: str | Path | None = None
) -> CueFile:
    """Read a released cue pickle: entries "KEY_cues" (3, K), rows class, row and column.

    Source: localization_cues.pickle of kolesman/SEC, also the format of speedinghzl/DSRG.
    """
    cues = read_cues(path, Path(index or SEC_INDEX))
    largest = np.max([cue.max(axis=1, initial=0) for cue in cues.values()], axis=0)
    grid = (int(largest[1:].max()) + 1,) * 2  # the smallest square that holds every cell
    num_classes = num_classes or max(int(largest[0]) + 1, 2)
    return from_cells(dict(sorted(cues.items())), grid, num_classes, str(path))


def from_folder(path: Path, num_classes: int | None = None) -> CueFile:
    """Read a folder of ID.npz, or of ID.png of class indices, where 255 is no cue.

    An .npz has `cue` (3, K), rows class, row and column, `grid` (2,) and `num_classes`.
    """
    files = sorted(path.glob("*.npz")) or sorted(path.glob("*.png"))
    if not files:
        raise UserError(f"{path} holds no cues: neither .npz nor .png")
    cells = {}
    grids, counts = set(), set()
    for file in files:
        if file.suffix == ".npz":
            arrays = read_npz(file, {"cue": ("iu", 2), "grid": ("iu", 1), "num_classes": ("iu", 0)})
            cells[file.stem] = arrays["cue"]
            counts.add(int(arrays["num_classes"]))
            grids.add(tuple(arrays["grid"].tolist()))
        else:
            mask = read_mask(file)
            row, column = np.nonzero(mask != IGNORE)
            cells[file.stem] = np.stack([mask[row, column], row, column]).astype(np.int16)
            grids.add(mask.shape)
        if len(grids) > 1 or len(next(iter(grids))) != 2:
            raise UserError(f"{file} has another grid than the files before it: {sorted(grids)}")
    if len(counts) > 1:
        raise UserError(f"{path} holds cues of {sorted(counts)} classes: of one data set only")
    largest = max(int(cell[:1].max(initial=0)) for cell in cells.values())
    num_classes = num_classes or (counts.pop() if counts else max(largest + 1, 2))
    return from_cells(cells, grids.pop(), num_classes, str(path))


def merge_files(first: CueFile, second: CueFile, overlap: bool = False) -> CueFile:
    """Join the cues of two files of one grid and one set of classes.

    An image that only one file has keeps its cues. As in SEC's released cues, a cell of several
    classes goes to the smaller region. With `overlap` it keeps them all, as in ascust/SEC-MXNet,
    whose seeding loss then asks for all of them at once.
    """
    if first.grid != second.grid or first.num_classes != second.num_classes:
        raise UserError(
            f"{first.source} ({first.num_classes} classes, grid {first.grid}) and {second.source} "
            f"({second.num_classes} classes, grid {second.grid}) do not fit each other"
        )
    settle = np.asarray if overlap else resolve_conflicts
    pairs = (
        (name, settle(np.any([f[name] for f in (first, second) if name in f], 0)))
        for name in sorted({*first.ids, *second.ids})
    )
    return CueFile.collect(pairs, f"{first.source} and {second.source}")


def convert(
    cues: Positional[Path],
    out: Positional[Path],
    num_classes: int | None = None,
    index: Path | None = None,
) -> None:
    """Turn a released pickle or a folder of .npz or .png cues into one cue file.

    Args:
        cues: the pickle, or the folder.
        out: cue file to write (.npz).
        num_classes: classes, background counted.
        index: list 'NAME.jpg NUMBER' of a pickle.
    """
    print(out, CueFile.open(cues, num_classes, index).write(out), sep="\n")


def merge(
    cues: Positional[tuple[Path, Path]],
    out: Positional[Path],
    overlap: bool = False,
    num_classes: int | None = None,
    index: Path | None = None,
) -> None:
    """Join two cue files; a cell of several classes goes to the smaller region.

    Args:
        cues: files, or folders of cues.
        out: cue file to write (.npz).
        overlap: keep cells of several classes, as SEC-MXNet does.
        num_classes: classes, background counted.
        index: list 'NAME.jpg NUMBER' of a pickle.
    """
    first, second = (CueFile.open(path, num_classes, index) for path in cues)
    print(out, merge_files(first, second, overlap).write(out), sep="\n")


def show(cues: Positional[Path], num_classes: int | None = None, index: Path | None = None) -> None:
    """Print how many cues a file holds.

    Args:
        cues: the file, or a folder of cues.
        num_classes: classes, background counted.
        index: list 'NAME.jpg NUMBER' of a pickle.
    """
    print(CueFile.open(cues, num_classes, index))


def main(arguments: list[str] | None = None) -> None:
    """Convert, merge and show cue files."""
    commands = {"convert": convert, "pack": convert, "merge": merge, "show": show}
    with entry():
        tyro.extras.subcommand_cli_from_dict(commands, args=arguments, description=main.__doc__)


if __name__ == "__main__":
    main()
