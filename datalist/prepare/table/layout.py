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

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Literal

from base import UserError
from datalist.prepare.names import NameIndex
from datalist.prepare.table.column import (
    CONFIDENCE,
    NO,
    NO_FINDING,
    UNCERTAIN,
    YES,
    Column,
    find_column,
    is_number,
    words_of,
)
from datalist.prepare.table.header import listing, name_column, split_header
from datalist.prepare.table.text import SEPARATORS, Grid, read_any_text, split, without_titles
from datalist.spec import plain
from datalist.tag import NO_TAG, tags_of

Layout = Literal["columns", "words", "lines", "onehot"]
BACKGROUND = "background"


@dataclass
class Table:
    """A table of tags, as it was understood.

    Args:
        rows: name as written and tags, for each line or picture, in order.
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
        lines = [
            f"separator: {self.separator}; layout: {self.layout}; {len(self.rows)} lines",
            f"classes ({len(count)}): {common or 'none'}{more}",
            *(f"  {name} -> {', '.join(tags) or '(no tag)'}" for name, tags in rows),
        ]
        if self.others:
            lines.append(f"columns that are not tags: {', '.join(self.others[:20])}")
        return "\n".join(lines)


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
    classes: Sequence[str] | None = None,
    flags: TableFlags = TableFlags(),
) -> Table:
    """Read a table by the rules above.

    Args:
        path: the file; UTF-8, UTF-16 or Windows' cp1252.
        classes: class names, where they are known; they settle what a field of several words is.

    Raises:
        UserError: no column names a picture, or the columns can be read in several ways.
    """
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
    flags: TableFlags = TableFlags(),
) -> Table:
    """Read the fields of a table, as `read_table` does."""
    if not any(map(any, grid)):
        raise UserError(f"{path} holds no tags: write NAME,TAG,TAG one picture a line")
    asked = [name for name in (*flags.tag_columns, flags.name_column) if name]
    header, grid = split_header(grid, index, asked)
    if not grid:
        raise UserError(f"{path} holds a header but no pictures")
    width = max(map(len, grid))
    rows = [[*row, *[""] * (width - len(row))] for row in grid]
    pairs = zip_longest(header[:width], zip(*rows), fillvalue="")
    columns = [Column(k, *pair) for k, pair in enumerate(pairs)]
    k = name_column(path, columns, index, flags.name_column, header or grid[0]).number
    # Rows that are equal say one thing once.
    rows = list(dict.fromkeys(tuple(row) for row in rows if row[k]))
    columns = [Column(c.number, c.heading, cells) for c, cells in zip(columns, zip(*rows))]
    return Reader(path, columns.pop(k), columns, bool(header), flags, classes or ()).read()


@dataclass
class Reader:
    """Decides what the columns beside the names mean, and reads them."""

    path: Path
    names: Column
    others: list[Column]
    header: bool
    flags: TableFlags
    classes: Sequence[str]
    notes: list[str] = field(default_factory=list)

    def read(self) -> Table:
        """The table; UserError where it can be read in several ways."""
        columns = self.tag_columns()
        layout = self.flags.layout or self.layout(columns)
        rows = self.onehot(columns) if layout == "onehot" else self.listed(columns, layout)
        left = [f"'{c.name[:40]}'" for c in self.others if c not in columns and c.filled]
        return Table(rows, "", layout, self.notes, left)

    def ask(self, reason: str, *, at_least: bool = False) -> UserError:
        """The question about the columns, with what answers it."""
        more = ", or --at-least NUMBER (from which a number says that the class is there)"
        return UserError(
            f"{self.path}: {reason}. Its columns are {listing([self.names, *self.others])}. "
            'Say which hold tags: --tag-columns "HEADING" "HEADING" (or numbers, from 1), and '
            f'--name-column "HEADING" where another holds the names{more if at_least else ""}'
        )

    # -- which columns -----------------------------------------------------------------------

    def tag_columns(self) -> list[Column]:
        """The columns that hold tags."""
        if wanted := self.flags.tag_columns:
            chosen = [find_column(self.others, name) for name in wanted]
            if None in chosen:
                raise self.ask(f"it has no column {wanted[chosen.index(None)]!r}")
            return chosen
        if not self.header:
            return self.without_header()
        if tagged := [c for c in self.others if c.is_tags and c.cells]:
            return self.headed(tagged)
        rest = [c for c in self.others if c.filled and not c.is_other]
        rest = [c for c in rest if c.heading or not c.numeric]
        marks = [c for c in rest if c.marks]
        numbers = [c for c in rest if c.numeric and not c.marks]
        texts = [c for c in rest if c not in marks and c not in numbers]
        if self.flags.layout == "onehot":
            return rest
        if numbers and (marks or len(numbers) > 1) and not texts:
            if self.flags.at_least is not None and all(c.heading for c in rest):
                return rest
            raise self.ask(f"{numbers[0]} holds other numbers than 0 and 1", at_least=True)
        if marks and not texts and not numbers:
            return marks
        if texts and not marks and not numbers:
            if len(texts) == 1:
                return self.plausible(texts)
            if not any(c.heading for c in texts):  # the further tags of ragged lines
                return texts
        unclear = "its headings do not say which columns hold tags"
        raise self.ask(unclear if rest else "none of its columns holds tags")

    def headed(self, tagged: list[Column]) -> list[Column]:
        """Of the columns whose headings say that they hold tags, those that are taken."""
        words = [c for c in tagged if c.filled and not c.numeric]
        tagged = words or tagged  # beside `label` a column `label_id` says the same as a number
        if all(c.marks for c in tagged) and len(tagged) > 1:
            return [c for c in self.others if c.marks and (c.is_tags or not c.is_other)]
        kinds = {re.sub(r"\d+", "", "".join(words_of(c.heading))) for c in tagged}
        if len(kinds) > 1:
            raise self.ask(f"{len(tagged)} of its columns may hold the tags")
        # What follows the last heading are further tags of a ragged line (id,tags / a,cat,dog).
        ragged = [c for c in self.others if not c.heading and c.filled and not c.numeric]
        return tagged + [c for c in ragged if c.number > tagged[-1].number]

    def without_header(self) -> list[Column]:
        """The columns of words, or the only one of numbers."""
        rest = [c for c in self.others if c.filled and not c.is_other]
        words = [c for c in rest if not c.numeric]
        if words and len(words) < len(rest):
            return words
        if not words and len(rest) > 1:
            raise self.ask("its columns hold numbers and have no headings")
        return self.plausible(rest) if rest else self.others

    def plausible(self, columns: list[Column]) -> list[Column]:
        """The columns, unless nearly each row has a tag of its own, as captions have."""
        values = [cell for c in columns for cell in c.filled]
        if len(values) > 20 and len(set(map(plain, values))) > 0.8 * len(values):
            raise self.ask("nearly each picture has a tag of its own")
        return columns

    # -- what they mean ----------------------------------------------------------------------

    def layout(self, columns: list[Column]) -> Layout:
        """How the fields of the columns are read."""
        if self.header and self.flags.at_least is not None and self.confidence() is None:
            return "onehot"
        filled = [c for c in columns if c.filled]
        if filled and all(c.marks for c in filled):
            single = len(columns) == 1 and columns[0].is_tags
            if single and len(self.others) == 1:
                raise self.two_ways("its tags are all 0 or 1", "onehot", "columns")
            if self.header and not single and all(c.heading for c in columns):
                return "onehot"
        if len(set(self.names.cells)) < len(self.names.cells):
            return "lines"
        flat = [line for c in columns for cell in c.cells for line in cell.splitlines()]
        several = {plain(cell) for cell in flat if re.search(r"\s", cell)}
        if len(columns) > 1 or not several or any(re.search(r"[;|,{\[(]", cell) for cell in flat):
            return "columns"
        if self.classes:
            return "columns" if several <= set(map(plain, self.classes)) else "words"
        whole = {plain(cell) for cell in flat if plain(cell) not in NO_TAG}
        inside = {word for cell in several for word in cell.split()}
        cells_of = Counter(word for cell in whole for word in set(cell.split()))
        if inside <= whole or (inside & whole and len(cells_of) < len(whole)):
            return "words"
        if all(cells_of[word] == 1 for word in inside):
            return "columns"  # words that never come apart are one class
        example = min(several)
        reason = f"'{example}' may be one class or {len(example.split())}"
        raise self.two_ways(reason, "columns", "words")

    def two_ways(self, reason: str, *layouts: str) -> UserError:
        """The question between two layouts."""
        meaning = {
            "columns": "every field is one class",
            "words": "blanks separate classes",
            "onehot": "1 says that the class of the column's heading is there",
        }
        choice = " or ".join(f"--layout {name} ({meaning[name]})" for name in layouts)
        return UserError(f"{self.path} can be read in two ways: {reason}. Say which: {choice}")

    def onehot(self, columns: list[Column]) -> list[tuple[str, list[str]]]:
        """Name and tags of each row, where fields say yes or no to the class of their heading."""
        columns = [c for c in columns if c.heading]
        if not columns:
            raise UserError(f"{self.path} needs a first line that names the class of each column")
        rows, uncertain = [], 0
        for name, *cells in zip(self.names.cells, *(c.cells for c in columns)):
            said = [(c, cell) for c, cell in zip(columns, cells) if plain(cell) not in NO_TAG]
            tags = [c.heading for c, cell in said if self.says_yes(c, cell)]
            uncertain += sum(cell.casefold() in UNCERTAIN for _, cell in said)
            rows.append((name, findings(tags) or [BACKGROUND] * bool(said)))
        if uncertain:
            sentence = f"{uncertain} fields of {self.path} are -1 (uncertain): taken as not there."
            self.notes.append(sentence)
        if empty := sum(tags == [BACKGROUND] for _, tags in rows):
            self.notes.append(f"{empty} pictures show none of the classes: all their fields are 0.")
        return rows

    def says_yes(self, column: Column, cell: str) -> bool:
        """Whether a field of a one-hot table says that the class is there."""
        if self.flags.at_least is not None and is_number(cell):
            return float(cell.replace(",", ".")) >= self.flags.at_least
        if cell.casefold() not in YES | NO | UNCERTAIN:
            raise UserError(
                f"{self.path}: a one-hot table holds 0 and 1, not {cell[:80]!r} (column "
                f"'{column.name}'): give --at-least NUMBER, from which a number says that the "
                "class is there"
            )
        return cell.casefold() in YES

    def confidence(self) -> Column | None:
        """The column that says how sure each row is, such as Open Images'."""
        headed = (c for c in self.others if set(words_of(c.heading)) & CONFIDENCE)
        return next((c for c in headed if c.numeric and not c.is_tags), None)

    def listed(self, columns: list[Column], layout: Layout) -> list[tuple[str, list[str]]]:
        """Name and tags of each row, where fields hold tags."""
        known = set(map(plain, self.classes))
        cells = [cell for c in columns for cell in c.filled]
        separators = ";|" if any(re.search(r"[;|]", cell) for cell in cells) else ","
        if separators == ",":
            known |= self.labels_with_commas(cells)
        rows = []
        for k, (name, sure) in enumerate(zip(self.names.cells, self.sure())):
            words = (tags_of(c.cells[k], layout == "words", known, separators) for c in columns)
            tags = [tag for row in words for tag in row]
            rows.append((name, (findings(tags) if sure else []) or [BACKGROUND] * bool(tags)))
        self.refuse_numbers(columns, rows)
        return rows

    def sure(self) -> list[bool]:
        """Whether each row is taken, by its column of confidence if there is one."""
        column, limit = self.confidence(), self.flags.at_least
        if column is None:
            return [True] * len(self.names.cells)
        if limit is None and not all(c.casefold() in YES | NO | UNCERTAIN for c in column.filled):
            raise UserError(
                f"{self.path}: {column} says how sure each tag is: give --at-least NUMBER, from "
                "which a tag is taken"
            )
        limit = 0.5 if limit is None else limit
        values = (cell.replace(",", ".") for cell in column.cells)
        return [float(v) >= limit if is_number(v) else v.casefold() in YES for v in values]

    def labels_with_commas(self, cells: list[str]) -> set[str]:
        """Fields with a comma whose parts never come apart: one class, and not several."""
        whole = {plain(cell) for cell in cells if cell[0] not in "[({"}
        parts = {cell: {part.strip() for part in cell.split(",")} for cell in whole}
        count = Counter(part for row in parts.values() for part in row)
        together = {c for c, row in parts.items() if "," in c and all(count[p] == 1 for p in row)}
        if together:
            first = min(together)
            self.notes.append(f"'{first}' is taken as one class: its parts never come apart.")
        return together

    def refuse_numbers(self, columns: list[Column], rows: list[tuple[str, list[str]]]) -> None:
        """Refuse classes that are numbers, unless a heading says that the column holds classes."""
        numbers = {tag for _, tags in rows for tag in tags if is_number(tag)}
        if self.flags.tag_columns or self.classes or self.flags.layout or not numbers:
            return
        headed = self.header and any(c.is_tags for c in columns)
        if len(columns) > 1 or (len(self.others) > 1 and not headed):
            raise self.ask(f"'{min(numbers)}' is a number and would be a class")
        advice = "their names can be written into classes.txt."
        self.notes.append(f"the classes of {self.path} are numbers: {advice}")


def findings(tags: list[str]) -> list[str]:
    """Tags but those that say that there is none."""
    return [tag for tag in tags if plain(tag) not in NO_FINDING]
