"""Text of a table: its encoding, its separator, the rows above its header, a shifted header."""

import codecs
import csv
import io
from collections import Counter
from pathlib import Path

from base import UserError
from datalist.archive import read_packed
from datalist.prepare.names import NameIndex, has_picture_suffix
from datalist.spec import LIST_LIMIT

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "blank"}
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order mark -> encoding; that of UTF-32 begins as that of UTF-16."""
TITLE_ROWS = 10
"""Rows above a header that may be titles."""

Grid = list[list[str]]


def read_any_text(path: Path) -> tuple[str, str]:
    """Read a text file in the encodings of spreadsheets; returns the text and its encoding's name.

    Raises:
        UserError: the file cannot be read, is too long, or is not text.
    """
    data = read_packed(path, LIST_LIMIT)
    if len(data) > LIST_LIMIT:
        raise UserError(f"{path} is longer than {LIST_LIMIT} bytes: not a table of tags")
    mark = next((mark for mark in MARKS if data.startswith(mark)), b"")
    half = len(data) // 2 * 0.3
    even, odd = data[::2].count(0), data[1::2].count(0)
    wide = MARKS.get(mark) or ("utf-16-le" if odd > half else "utf-16-be" if even > half else "")
    candidates = [wide] if wide else ["utf-8", "cp1252"]
    for encoding in candidates:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text, encoding.removesuffix("-sig")
    raise UserError(f"{path} is not a text file: save the table as CSV in UTF-8")


def split(path: Path, text: str, index: NameIndex) -> tuple[str, Grid]:
    """Split a text into fields, by the separator under which a column names the most pictures.

    `csv.Sniffer` guesses from characters alone. UserError where the text cannot be split.
    """
    first, _, rest = text.partition("\n")
    known = first.strip().casefold().strip('"')
    separators = [s for s in SEPARATORS if s != " " or path.suffix != ".csv"]
    if known.startswith("sep=") and len(known) <= 5:  # Excel's own line
        text = rest
        separators = [s for s in separators if s == (known[4:] or "\t")] or separators
    grids = {separator: fields(path, text, separator) for separator in separators}
    if not all(grids.values()):
        raise UserError(f"{path} holds no tags: write NAME,TAG,TAG one picture a line")

    def rank(separator: str) -> tuple:
        grid = grids[separator]
        columns = [column_of(grid, k) for k in range(max(map(len, grid)))]
        matches = ((index.counts(c), sum(map(has_picture_suffix, c))) for c in columns)
        return (*max(matches, default=(0, 0)), len(columns) > 1)

    best = max(separators, key=rank)
    return best, grids[best]


def fields(path: Path, text: str, separator: str) -> Grid:
    """Fields of each row that is not empty or a comment; quoted fields may hold line breaks.

    Raises:
        UserError: it is not a CSV file.
    """
    try:
        if separator == " ":
            grid = [line.split() for line in text.splitlines()]
        else:
            stream = io.StringIO(text, newline="")
            grid = list(csv.reader(stream, delimiter=separator, skipinitialspace=True))
    except csv.Error as error:
        raise UserError(f"{path} is not a readable CSV file: {error}") from None
    grid = [[cell.strip() for cell in row] for row in grid]
    return [row for row in grid if any(row) and not (row[0].startswith("#") and len(row[0]) > 1)]


def column_of(grid: Grid, number: int) -> list[str]:
    """Fields of a column, but for rows that are too short."""
    return [row[number] for row in grid if number < len(row)]


def without_titles(grid: Grid) -> Grid:
    """A grid without rows of a single field above a table of several columns."""
    usual = Counter(map(len, grid)).most_common(1)[0][0]
    start = 0
    while (
        usual > 1
        and start < min(TITLE_ROWS, len(grid) - 2)
        and sum(map(bool, grid[start])) == 1
        and grid[start][0]
        and not has_picture_suffix(grid[start][0])
        and sum(map(bool, grid[start + 1])) != 1
    ):
        start += 1
    return grid[start:]
