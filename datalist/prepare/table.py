"""Tables of tags as people have them: what separates the fields, and what the fields mean.

Rules, in this order:

1. *Separator*: comma, semicolon, tab, bar or (in .txt) blanks: the one under which a column names
   the most pictures; that column holds the names. `csv.Sniffer` guesses from characters alone.
2. *Header*: the first line, where its name field is one of `NAME_HEADERS`, or where another field
   is one of `TAG_HEADERS`, or where it names no picture and all other lines are numbers.
3. *Tag columns*: those headed by one of `TAG_HEADERS`; without such, all but the names.
4. *Layout*:
   - `onehot`: the header names the classes, and every field below is 0 or 1 (or true, yes, x);
   - `lines`: a name comes several times, each line with tags of its own;
   - `words`: one tag column whose fields hold several tags with blanks between them;
   - `columns`: every field is a tag. In all layouts but `onehot`, `;`, `|` and (inside quotes)
     commas separate the tags of one field.
5. Fields of `NO_TAG` (`none`, `n/a`, `-` ...) are no tag. `background` says that a picture shows
   none of the classes.

Where two layouts are possible the reader asks for `--layout`.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from base import UserError
from datalist.prepare.names import NameIndex, has_picture_suffix
from datalist.spec import plain, read_text
from datalist.tag import NAME_HEADERS, NO_TAG, TAG_HEADERS, tags_of

Layout = Literal["columns", "words", "lines", "onehot"]
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "blank"}
YES = {"1", "1.0", "true", "yes", "x"}
NO = {"0", "0.0", "-1", "false", "no", *NO_TAG}


@dataclass
class Table:
    """A table of tags, as it was understood.

    Args:
        rows: name as written and tags, for each line or picture, in order.
        separator: word for what separates fields.
        layout: one of `Layout`.
    """

    rows: list[tuple[str, list[str]]]
    separator: str
    layout: Layout

    def __str__(self) -> str:
        count = Counter(tag for _, tags in self.rows for tag in dict.fromkeys(tags))
        common = ", ".join(f"{tag} {number}" for tag, number in count.most_common(10))
        more = f", and {len(count) - 10} more" if len(count) > 10 else ""
        rows = sorted(self.rows, key=lambda row: not row[1])[:5]  # those with tags tell more
        examples = [f"  {name} -> {', '.join(tags) or '(no tag)'}" for name, tags in rows]
        return "\n".join(
            [
                f"separator: {self.separator}; layout: {self.layout}; {len(self.rows)} lines",
                f"classes ({len(count)}): {common or 'none'}{more}",
                *examples,
            ]
        )


def read_table(
    path: Path,
    index: NameIndex,
    layout: Layout | None = None,
    classes: Sequence[str] | None = None,
) -> Table:
    """Read a table by the rules above.

    Args:
        path: the file, UTF-8.
        index: the pictures.
        layout: what the fields mean; default: decided by the rules.
        classes: class names, where they are known; they settle what a field of several words is.

    Raises:
        UserError: no column names a picture, or two layouts are possible.
    """
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    lines = [line for line in lines if not line.lstrip().startswith("#")]
    if not lines:
        raise UserError(f"{path} holds no tags: write NAME,TAG,TAG one picture a line.")
    separator, column, grid = _split(path, lines, index)
    header, grid = _header(grid, column, index)
    grid = [row for row in grid if column < len(row) and row[column]]
    if not grid:
        raise UserError(f"{path} holds a header but no pictures.")
    width = max(map(len, grid))
    columns = [k for k in range(width) if k != column]
    if header:
        chosen = [k for k in columns if k < len(header) and plain(header[k]) in TAG_HEADERS]
        # What follows the last heading are further tags of a ragged line (id,tags / a,cat,dog).
        ragged = [k for k in columns if k >= len(header)]
        columns = chosen + ragged if chosen else columns
    cells = [[row[k] if k < len(row) else "" for k in columns] for row in grid]
    names = [row[column] for row in grid]
    heads = [header[k] if header and k < len(header) else "" for k in columns]
    layout = layout or _layout(path, heads, names, cells, classes)
    rows = []
    if layout == "onehot":
        if not any(heads):
            raise UserError(f"{path} needs a first line that names the class of each column.")
        wrong = {cell for row in cells for cell in row if cell.casefold() not in YES | NO}
        if wrong:
            raise UserError(f"{path}: a one-hot table holds 0 and 1, not {min(wrong)[:80]!r}.")
        for name, row in zip(names, cells):
            rows.append((name, [h for h, cell in zip(heads, row) if cell.casefold() in YES and h]))
    else:
        known = {plain(name) for name in classes or ()}
        for name, row in zip(names, cells):
            rows.append(
                (name, [t for cell in row for t in tags_of(cell, layout == "words", known)])
            )
    return Table(rows, SEPARATORS[separator], layout)


def _split(path: Path, lines: list[str], index: NameIndex) -> tuple[str, int, list[list[str]]]:
    """Separator, number of the column of names, and the fields of each line."""
    best: tuple[tuple, str, int, list[list[str]]] | None = None
    for separator in SEPARATORS:
        if separator == " " and path.suffix.casefold() == ".csv":
            continue
        try:
            if separator == " ":
                grid = [line.split() for line in lines]
            else:
                grid = list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
        except csv.Error as error:
            raise UserError(f"{path} is not a readable CSV file: {error}.") from None
        grid = [[cell.strip() for cell in row] for row in grid]
        for column in range(min(max(map(len, grid)), 8)):
            cells = [row[column] for row in grid if column < len(row)]
            # Of columns that name as many pictures the one with file suffixes is taken (not a
            # running number), of separators one that separates.
            count = index.counts(cells)
            rank = (count, sum(map(has_picture_suffix, cells)), max(map(len, grid)) > 1)
            if count and (best is None or rank > best[0]):
                best = (rank, separator, column, grid)
    if best is None:
        raise UserError(
            f"{path} names none of the pictures, with commas, semicolons, tabs, bars or blanks "
            f"between its fields; its first line is {lines[0][:80]!r}."
        )
    return best[1:]


def _header(
    grid: list[list[str]], column: int, index: NameIndex
) -> tuple[list[str] | None, list[list[str]]]:
    """The header, where there is one, and the lines below it."""
    first, rest = grid[0], grid[1:]
    name = first[column] if column < len(first) else ""
    others = [cell for k, cell in enumerate(first) if k != column]
    if has_picture_suffix(name) or not rest:
        return None, grid
    cells = [cell for row in rest for k, cell in enumerate(row) if k != column]
    numbers = [cell.casefold() in YES | NO for cell in cells]
    is_name = plain(name).replace(" ", "_") in NAME_HEADERS or plain(name) in NAME_HEADERS
    tagged = any(plain(cell) in TAG_HEADERS for cell in others) and not index.counts([name])
    onehot = (
        bool(numbers) and all(numbers) and not index.counts([name])
        and not any(cell.casefold() in YES | NO for cell in others)
    )  # fmt: skip
    return (first, rest) if is_name or tagged or onehot else (None, grid)


def _layout(
    path: Path,
    heads: list[str],
    names: list[str],
    cells: list[list[str]],
    classes: Sequence[str] | None,
) -> Layout:
    flat = [cell for row in cells for cell in row]
    marks = [cell.casefold() for cell in flat if plain(cell) not in NO_TAG]
    if marks and all(cell in YES | NO for cell in marks):
        if any(plain(head) in TAG_HEADERS for head in heads) and len(heads) == 1:
            raise _ask(path, "its tags are all 0 or 1", "onehot", "columns")
        return "onehot"
    if len(set(names)) < len(names):
        return "lines"
    several = {plain(cell) for cell in flat if re.search(r"\s", cell)}
    if len(heads) > 1 or not several or any(re.search(r"[;|,{]", cell) for cell in flat):
        return "columns"
    whole = {plain(cell) for cell in marks}
    if classes is not None:
        known = {plain(name) for name in classes}
        return "columns" if several <= known else "words"
    vocabulary = {word for cell in whole for word in cell.split()}
    inside = {word for cell in several for word in cell.split()}
    if inside <= whole or (inside & whole and len(vocabulary) < len(whole)):
        return "words"
    cells_of = Counter(word for cell in whole for word in set(cell.split()))
    if all(cells_of[word] == 1 for word in inside):
        return "columns"  # words that never come apart are one class
    example = min(several)
    raise _ask(path, f"'{example}' may be one class or {len(example.split())}", "columns", "words")


def _ask(path: Path, reason: str, *layouts: str) -> UserError:
    meaning = {
        "columns": "every field is one class",
        "words": "blanks separate classes",
        "onehot": "1 says that the class of the column's heading is there",
    }
    choice = " or ".join(f"--layout {name} ({meaning[name]})" for name in layouts)
    return UserError(f"{path} can be read in two ways: {reason}. Say which: {choice}.")
