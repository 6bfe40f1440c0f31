"""What a table of tags means: either one layout is understood, or one question is asked.

1. The column of names is the one that names pictures; of several, one that is headed so.
2. Columns of tags are those whose headings say so. Without such, columns of 0 and 1 are classes of
   a one-hot table, and a table without headings holds tags in each column of words.
3. Columns with other known headings (age, fold, width) and columns of numbers are not tags.
4. Where a column remains that may be either, the columns are listed, and flags answer.

Layouts: `onehot`, 0 and 1 below a header of classes; `lines`, a picture in several rows; `words`,
blanks separate tags; `columns`, each field is a tag. In the last three `;`, `|` and commas inside
quotes separate the tags of one field.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from base import UserError
from datalist.prepare.names import NameIndex, has_picture_suffix
from datalist.prepare.table.column import (
    CONFIDENCE,
    NO,
    NO_FINDING,
    UNCERTAIN,
    YES,
    Column,
    find_column,
    is_name_heading,
    is_number,
    words_of,
)
from datalist.prepare.table.text import (
    SEPARATORS,
    Grid,
    column_of,
    read_any_text,
    split,
    without_titles,
)
from datalist.spec import plain
from datalist.tag import NO_TAG, tags_of

Layout = Literal["columns", "words", "lines", "onehot"]
BACKGROUND = "background"
SHOWN = 20
"""Columns that a question lists."""


@dataclass
class Table:
    """A table of tags, as it was understood.

    Args:
        rows: name as written and tags, for each line or picture, in order.
        separator: word for what separates fields.
        layout: one of `Layout`.
        notes: sentences on what was not taken as it stands.
        others: headings of the columns that are not tags.
    """

    rows: list[tuple[str, list[str]]]
    separator: str
    layout: Layout
    notes: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

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
                *(
                    [f"columns that are not tags: {', '.join(self.others[:20])}"]
                    if self.others
                    else []
                ),
            ]
        )


@dataclass(frozen=True)
class TableFlags:
    """Answers to questions about a table; fields as the flags of `arrange`."""

    layout: Layout | None = None
    tag_columns: tuple[str, ...] = ()
    name_column: str | None = None
    at_least: float | None = None


def read_table(
    path: Path,
    index: NameIndex,
    layout: Layout | None = None,
    classes: Sequence[str] | None = None,
    flags: TableFlags | None = None,
) -> Table:
    """Read a table by the rules above.

    Args:
        path: the file; UTF-8, UTF-16 or Windows' cp1252.
        index: the pictures.
        layout: what the fields mean; default: decided by the rules.
        classes: class names, where they are known; they settle what a field of several words is.
        flags: answers to further questions.

    Raises:
        UserError: no column names a picture, or the columns can be read in several ways.
    """
    flags = flags or TableFlags(layout)
    text, encoding = read_any_text(path)
    separator, grid = split(path, text, index)
    table = read_grid(path, without_titles(grid), index, classes, flags)
    table.separator = SEPARATORS[separator]
    if encoding == "cp1252":
        table.notes.insert(0, f"{path} is read as {encoding}.")
    return table


def read_grid(
    path: Path,
    grid: Grid,
    index: NameIndex,
    classes: Sequence[str] | None = None,
    flags: TableFlags | None = None,
) -> Table:
    """Read the fields of a table, as `read_table` does."""
    flags = flags or TableFlags()
    if not any(map(any, grid)):
        raise UserError(f"{path} holds no tags: write NAME,TAG,TAG one picture a line.")
    header, grid = _header(grid, index, flags)
    if not grid:
        raise UserError(f"{path} holds a header but no pictures.")
    columns = _columns(header, grid)
    names = _name_column(path, columns, index, flags, header or grid[0])
    rows = [k for k, name in enumerate(names.cells) if name]
    # Rows that are equal say one thing once.
    seen: dict[tuple, int] = {}
    for k in rows:
        seen.setdefault(tuple(column.cells[k] for column in columns), k)
    rows = list(seen.values())
    columns = [Column(c.number, c.heading, tuple(c.cells[k] for k in rows)) for c in columns]
    names = next(column for column in columns if column.number == names.number)
    others = [column for column in columns if column is not names]
    return _Reader(path, bool(header), names, others, flags, classes).read()


def _columns(header: list[str] | None, grid: Grid) -> list[Column]:
    width = max(map(len, grid))
    return [
        Column(
            k,
            header[k] if header and k < len(header) else "",
            tuple(row[k] if k < len(row) else "" for row in grid),
        )
        for k in range(width)
    ]


def _header(grid: Grid, index: NameIndex, flags: TableFlags) -> tuple[list[str] | None, Grid]:
    """The header, where there is one, and the rows below it."""
    first, rest = grid[0], grid[1:]
    if not rest or any(map(has_picture_suffix, first)):
        return None, grid
    if index.counts(first) and not any(is_name_heading(cell) for cell in first):
        return None, grid
    numbers = [
        k
        for k, cell in enumerate(first)
        if not is_number(cell) and (below := [c for c in column_of(rest, k) if c])
        and all(is_number(c) or c.casefold() in YES | NO for c in below)
    ]  # fmt: skip
    known = any(Column(0, cell, ()).is_tags or is_name_heading(cell) for cell in first)
    asked = {plain(name) for name in (*flags.tag_columns, flags.name_column or "") if name}
    if not (known or numbers or asked & {plain(cell) for cell in first}):
        return None, grid
    lengths = {len(row) for row in rest}
    if lengths == {len(first) + 1} and first[0]:
        first = ["", *first]  # R leaves out the heading of the row names
    return first, rest


def _name_column(
    path: Path, columns: list[Column], index: NameIndex, flags: TableFlags, first: list[str]
) -> Column:
    """The column of names.

    Raises:
        UserError: no column names a picture, or two may.
    """
    if flags.name_column is not None:
        if column := find_column(columns, flags.name_column):
            return column
        raise UserError(f"{path} has no column {flags.name_column!r}: it has {_list(columns)}.")
    count = {column.number: index.counts(column.cells) for column in columns}
    most = max(count.values())
    if not most:
        raise UserError(
            f"{path} names none of the pictures, with commas, semicolons, tabs, bars or blanks "
            f"between its fields; its first line is {', '.join(first)[:80]!r}."
        )

    def rank(column: Column) -> tuple:
        suffixes = sum(map(has_picture_suffix, column.cells))
        headed = is_name_heading(column.heading)
        return (suffixes > 0, headed and 2 * count[column.number] >= most, count[column.number])

    return max((c for c in columns if count[c.number]), key=rank)


def _list(columns: Iterable[Column]) -> str:
    columns = list(columns)
    more = f"; and {len(columns) - SHOWN} more" if len(columns) > SHOWN else ""
    return "; ".join(map(str, columns[:SHOWN])) + more


class _Reader:
    """Decides what the columns beside the names mean, and reads them."""

    def __init__(
        self,
        path: Path,
        header: bool,
        names: Column,
        others: list[Column],
        flags: TableFlags,
        classes: Sequence[str] | None,
    ) -> None:
        self.path, self.header, self.names, self.others = path, header, names, others
        self.flags, self.classes = flags, classes
        self.notes: list[str] = []

    def read(self) -> Table:
        columns = self.tag_columns()
        layout = self.flags.layout or self.layout(columns)
        rows = self.onehot(columns) if layout == "onehot" else self.listed(columns, layout)
        left = [f"'{c.name[:40]}'" for c in self.others if c not in columns and c.filled]
        return Table(rows, "", layout, self.notes, left)

    def ask(self, reason: str, *, at_least: bool = False) -> UserError:
        """The question about the columns, with what answers it."""
        more = ", or --at-least NUMBER (from which a number says that the class is there)"
        return UserError(
            f"{self.path}: {reason}. Its columns are {_list([self.names, *self.others])}. "
            'Say which hold tags: --tag-columns "HEADING" "HEADING" (or numbers, from 1), and '
            f'--name-column "HEADING" where another holds the names{more if at_least else ""}.'
        )

    # -- which columns -----------------------------------------------------------------------

    def tag_columns(self) -> list[Column]:
        if self.flags.tag_columns:
            chosen = []
            for wanted in self.flags.tag_columns:
                column = find_column(self.others, wanted)
                if column is None:
                    raise self.ask(f"it has no column {wanted!r}")
                chosen.append(column)
            return chosen
        if not self.header:
            return self.without_header()
        tagged = [c for c in self.others if c.is_tags and (c.filled or c.cells)]
        if tagged:
            return self.headed(tagged)
        rest = [
            column
            for column in self.others
            if column.filled and not column.is_other and (column.heading or not column.numeric)
        ]
        marks = [column for column in rest if column.marks]
        numbers = [column for column in rest if column.numeric and not column.marks]
        texts = [column for column in rest if column not in marks and column not in numbers]
        onehot = self.flags.layout == "onehot"
        if onehot:
            return rest
        if numbers and (marks or len(numbers) > 1) and not texts:
            if self.flags.at_least is not None and all(column.heading for column in rest):
                return rest
            raise self.ask(f"{numbers[0]} holds other numbers than 0 and 1", at_least=True)
        if marks and not texts and not numbers:
            return marks
        if not marks and not numbers and len(texts) == 1:
            return self.plausible(texts)
        ragged = [column for column in texts if not column.heading]
        if ragged and texts == ragged and not marks and not numbers:
            return ragged
        if not rest:
            raise self.ask("none of its columns holds tags")
        raise self.ask("its headings do not say which columns hold tags")

    def headed(self, tagged: list[Column]) -> list[Column]:
        """Of the columns whose headings say that they hold tags, those that are taken."""
        words = [column for column in tagged if column.filled and not column.numeric]
        if words and len(words) < len(tagged):
            tagged = words  # beside `label` a column `label_id` says the same as a number
        if all(column.marks for column in tagged) and len(tagged) > 1:
            return [c for c in self.others if c.marks and not (c.is_other and not c.is_tags)]
        kinds = {re.sub(r"\d+", "", "".join(words_of(column.heading))) for column in tagged}
        if len(kinds) > 1:
            raise self.ask(f"{len(tagged)} of its columns may hold the tags")
        # What follows the last heading are further tags of a ragged line (id,tags / a,cat,dog).
        ragged = [column for column in self.others if not column.heading and column.filled]
        ragged = [c for c in ragged if c.number > tagged[-1].number and not c.numeric]
        return tagged + ragged

    def without_header(self) -> list[Column]:
        rest = [column for column in self.others if column.filled and not column.is_other]
        words = [column for column in rest if not column.numeric]
        if words and len(words) < len(rest):
            return words
        if not words and len(rest) > 1:
            raise self.ask("its columns hold numbers and have no headings")
        if not rest:
            return self.others
        return self.plausible(rest)

    def plausible(self, columns: list[Column]) -> list[Column]:
        """The columns, unless nearly each row has a tag of its own, as captions have."""
        values = [cell for column in columns for cell in column.filled]
        if len(values) > 20 and len({plain(value) for value in values}) > 0.8 * len(values):
            raise self.ask("nearly each picture has a tag of its own")
        return columns

    # -- what they mean ----------------------------------------------------------------------

    def layout(self, columns: list[Column]) -> Layout:
        marked = columns and all(column.marks or not column.filled for column in columns)
        if self.header and self.flags.at_least is not None and self.confidence() is None:
            return "onehot"
        if marked and any(column.filled for column in columns):
            if len(columns) == 1 and columns[0].is_tags and len(self.others) == 1:
                raise self.two_ways("its tags are all 0 or 1", "onehot", "columns")
            single = len(columns) == 1 and columns[0].is_tags
            if self.header and not single and all(column.heading for column in columns):
                return "onehot"
        flat = [cell for column in columns for cell in column.cells]
        if len(set(self.names.cells)) < len(self.names.cells):
            return "lines"
        flat = [line for cell in flat for line in cell.splitlines()]
        several = {plain(cell) for cell in flat if re.search(r"\s", cell)}
        if len(columns) > 1 or not several or any(re.search(r"[;|,{\[(]", cell) for cell in flat):
            return "columns"
        whole = {plain(cell) for cell in flat if plain(cell) not in NO_TAG}
        if self.classes is not None:
            known = {plain(name) for name in self.classes}
            return "columns" if several <= known else "words"
        vocabulary = {word for cell in whole for word in cell.split()}
        inside = {word for cell in several for word in cell.split()}
        if inside <= whole or (inside & whole and len(vocabulary) < len(whole)):
            return "words"
        cells_of = Counter(word for cell in whole for word in set(cell.split()))
        if all(cells_of[word] == 1 for word in inside):
            return "columns"  # words that never come apart are one class
        example = min(several)
        raise self.two_ways(
            f"'{example}' may be one class or {len(example.split())}", "columns", "words"
        )

    def two_ways(self, reason: str, *layouts: str) -> UserError:
        meaning = {
            "columns": "every field is one class",
            "words": "blanks separate classes",
            "onehot": "1 says that the class of the column's heading is there",
        }
        choice = " or ".join(f"--layout {name} ({meaning[name]})" for name in layouts)
        return UserError(f"{self.path} can be read in two ways: {reason}. Say which: {choice}.")

    def onehot(self, columns: list[Column]) -> list[tuple[str, list[str]]]:
        if not any(column.heading for column in columns):
            raise UserError(f"{self.path} needs a first line that names the class of each column.")
        rows, uncertain = [], 0
        for k, name in enumerate(self.names.cells):
            tags, said = [], False
            for column in columns:
                if not column.heading or plain(cell := column.cells[k]) in NO_TAG:
                    continue
                uncertain += cell.casefold() in UNCERTAIN
                said = True
                if self.says_yes(column, cell):
                    tags.append(column.heading)
            none = [tag for tag in tags if plain(tag) in NO_FINDING]
            tags = [tag for tag in tags if tag not in none]
            rows.append((name, tags or ([BACKGROUND] if said else [])))
        if uncertain:
            self.notes.append(
                f"{uncertain} fields of {self.path} are -1 (uncertain): taken as not there."
            )
        empty = sum(tags == [BACKGROUND] for _, tags in rows)
        if empty:
            self.notes.append(f"{empty} pictures show none of the classes: all their fields are 0.")
        return rows

    def says_yes(self, column: Column, cell: str) -> bool:
        if self.flags.at_least is not None and is_number(cell):
            return float(cell.replace(",", ".")) >= self.flags.at_least
        if cell.casefold() not in YES | NO | UNCERTAIN:
            raise UserError(
                f"{self.path}: a one-hot table holds 0 and 1, not {cell[:80]!r} (column "
                f"'{column.name}'): give --at-least NUMBER, from which a number says that the "
                "class is there."
            )
        return cell.casefold() in YES

    def confidence(self) -> Column | None:
        """The column that says how sure each row is, such as Open Images'."""
        headed = (c for c in self.others if set(words_of(c.heading)) & CONFIDENCE)
        return next((c for c in headed if c.numeric and not c.is_tags), None)

    def listed(self, columns: list[Column], layout: Layout) -> list[tuple[str, list[str]]]:
        known = {plain(name) for name in self.classes or ()}
        cells = [cell for column in columns for cell in column.filled]
        separators = ";|" if any(re.search(r"[;|]", cell) for cell in cells) else ","
        if separators == ",":
            known |= self.labels_with_commas(cells)
        sure = self.confidence()
        limit = self.flags.at_least
        if sure and limit is None:
            if not all(cell.casefold() in YES | NO | UNCERTAIN for cell in sure.filled):
                raise UserError(
                    f"{self.path}: {sure} says how sure each tag is: give --at-least NUMBER, from "
                    "which a tag is taken."
                )
            limit = 0.5
        rows = []
        for k, name in enumerate(self.names.cells):
            tags = []
            for column in columns:
                cell = column.cells[k]
                tags += tags_of(cell, layout == "words", known, separators)
            if sure and limit is not None:
                value = sure.cells[k].replace(",", ".")
                present = float(value) >= limit if is_number(value) else value.casefold() in YES
                tags = tags if present or not tags else [BACKGROUND]
            none = [tag for tag in tags if plain(tag) in NO_FINDING]
            tags = [tag for tag in tags if tag not in none] or [BACKGROUND] * bool(none)
            rows.append((name, tags))
        self.refuse_numbers(columns, rows)
        return rows

    def labels_with_commas(self, cells: list[str]) -> set[str]:
        """Fields with a comma whose parts never come apart: one class, and not several."""
        whole = {plain(cell) for cell in cells if cell[0] not in "[({"}
        parts = {cell: [part.strip() for part in cell.split(",")] for cell in whole if "," in cell}
        count = Counter(part for cell in whole for part in {p.strip() for p in cell.split(",")})
        together = {cell for cell, split in parts.items() if all(count[p] == 1 for p in split)}
        if together:
            self.notes.append(
                f"'{min(together)}' is taken as one class: its parts never come apart."
            )
        return together

    def refuse_numbers(self, columns: list[Column], rows: list[tuple[str, list[str]]]) -> None:
        """Refuse classes that are numbers, unless a heading says that the column holds classes."""
        if self.flags.tag_columns or self.classes or self.flags.layout:
            return
        headed = self.header and any(column.is_tags for column in columns)
        numbers = {tag for _, tags in rows for tag in tags if is_number(tag)}
        if not numbers:
            return
        if (len(columns) > 1 and len(numbers) > 0) or (len(self.others) > 1 and not headed):
            raise self.ask(f"'{min(numbers)}' is a number and would be a class")
        self.notes.append(
            f"the classes of {self.path} are numbers: their names can be written into classes.txt."
        )
