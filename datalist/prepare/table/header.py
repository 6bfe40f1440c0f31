"""The header of a table, and its column of names."""

from collections.abc import Sequence
from pathlib import Path

from base import UserError
from datalist.prepare.names import NameIndex, has_picture_suffix
from datalist.prepare.table.column import NO, YES, Column, find_column, is_name_heading, is_number
from datalist.prepare.table.text import Grid, column_of
from datalist.spec import plain

SHOWN = 20
"""Columns that a question lists."""


def split_header(grid: Grid, index: NameIndex, asked: Sequence[str]) -> tuple[list[str], Grid]:
    """The header, empty where there is none, and the rows below it; `asked` are headings."""
    first, rest = grid[0], grid[1:]
    headings = any(map(is_name_heading, first))
    if not rest or any(map(has_picture_suffix, first)) or (index.counts(first) and not headings):
        return [], grid

    def above_numbers(k: int, cell: str) -> bool:
        below = [c for c in column_of(rest, k) if c]
        numbers = all(is_number(c) or c.casefold() in YES | NO for c in below)
        return bool(below) and numbers and not is_number(cell)

    known = headings or any(Column(0, cell, ()).is_tags for cell in first)
    is_header = known or set(map(plain, asked)) & set(map(plain, first))
    if not is_header and not any(above_numbers(k, cell) for k, cell in enumerate(first)):
        return [], grid
    if {len(row) for row in rest} == {len(first) + 1} and first[0]:
        first = ["", *first]  # R leaves out the heading of the row names
    return first, rest


def name_column(
    path: Path, columns: list[Column], index: NameIndex, wanted: str | None, first: list[str]
) -> Column:
    """The column of names: that of the heading or number `wanted`, or the one with most names."""
    if wanted is not None:
        if column := find_column(columns, wanted):
            return column
        raise UserError(f"{path} has no column {wanted!r}: it has {listing(columns)}")
    count = {column.number: index.counts(column.cells) for column in columns}
    most = max(count.values())
    if not most:
        raise UserError(
            f"{path} names none of the pictures, with commas, semicolons, tabs, bars or blanks "
            f"between its fields; its first line is {', '.join(first)[:80]!r}"
        )

    def rank(column: Column) -> tuple:
        suffixes = any(map(has_picture_suffix, column.cells))
        headed = is_name_heading(column.heading)
        return (suffixes, headed and 2 * count[column.number] >= most, count[column.number])

    return max((c for c in columns if count[c.number]), key=rank)


def listing(columns: Sequence[Column]) -> str:
    """Columns in a question."""
    more = f"; and {len(columns) - SHOWN} more" if len(columns) > SHOWN else ""
    return "; ".join(map(str, columns[:SHOWN])) + more
