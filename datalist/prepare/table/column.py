"""Columns of a table: what their headings and their values say that they hold."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from datalist.prepare.names import has_picture_suffix
from datalist.spec import plain
from datalist.tag import NAME_HEADERS, NO_TAG

NAME_WORDS = {
    *("image", "images", "img", "file", "filename", "filenames", "filepath", "picture", "photo"),
    *("path", "imageid", "fname", "uri", "url", "imagename", "bild", "datei", "foto"),
}
"""Words of the heading of a column of names."""
TAG_WORDS = {
    *("tag", "tags", "label", "labels", "class", "classes", "category", "categories", "choice"),
    *("choices", "keyword", "keywords", "finding", "findings", "dx", "diagnosis", "diagnoses"),
    *("species", "disease", "diseases", "classname", "labelname", "klasse", "klassen", "classid"),
    *("target", "targets", "labelid", "concept", "concepts"),
}
"""Words of the heading of a column of tags."""
OTHER_WORDS = {
    *("confidence", "score", "scores", "prob", "probability", "count", "number", "num", "source"),
    *("type", "width", "height", "depth", "area", "time", "date", "annotator", "rater", "worker"),
    *("age", "sex", "gender", "patient", "view", "position", "frontal", "lateral", "ap", "pa"),
    *("fold", "split", "subset", "set", "index", "unnamed", "row", "xmin", "xmax", "ymin", "ymax"),
    *("x", "y", "x1", "x2", "y1", "y2", "w", "h", "bbox", "box", "boxes", "pixels", "encoded"),
    *("encodedpixels", "rle", "segmentation", "lesion", "follow", "up", "spacing", "original"),
    *("size", "lat", "lon", "latitude", "longitude", "location", "localization", "lead", "created"),
    *("updated", "rotation", "license", "author", "user", "occluded", "truncated", "depiction"),
    *("inside", "group", "study", "series", "site", "difficult", "crowd", "iscrowd", "polygon"),
    *("train", "val", "test", "valid", "is", "md5", "hash", "comment", "comments", "note", "notes"),
    *("alter", "datum", "nr", "no", "kommentar", "version", "camera", "id", "at", "annotation"),
}
"""Words of the headings of columns that say something else."""
HARD = OTHER_WORDS - {"id", "is", "no", "set", "original", "x", "y"}
"""Of these, those that also mark a heading with a word of `TAG_WORDS` as something else."""
CONFIDENCE = {"confidence", "score", "prob", "probability"}
NO_FINDING = {"no finding", "no findings", "nofinding", "none", "background", "no tag", "no label"}
"""Classes that say that a picture shows none of the classes."""
SPLIT_VALUES = {
    *("train", "training", "val", "valid", "validation", "test", "testing", "unassigned", "dev")
}
YES = {"1", "1.0", "true", "yes", "x", "wahr", "ja", "y", "t"}
NO = {"0", "0.0", "false", "no", "falsch", "nein", "n", "f"}
UNCERTAIN = {"-1", "-1.0"}
MARKS = YES | NO | UNCERTAIN | NO_TAG


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        number: from 0.
        heading: its heading; "" where the table has none.
    """

    number: int
    heading: str
    cells: tuple[str, ...]

    @property
    def name(self) -> str:
        """What a person calls it: its heading, or its number from 1."""
        return self.heading or str(self.number + 1)

    @property
    def filled(self) -> list[str]:
        """The fields that say something."""
        return [cell for cell in self.cells if plain(cell) not in NO_TAG]

    @property
    def numeric(self) -> bool:
        """Whether all fields that say something are numbers."""
        return bool(self.filled) and all(map(is_number, self.filled))

    @property
    def marks(self) -> bool:
        """Whether all fields are 0 or 1, true or false, or empty."""
        return bool(self.filled) and all(cell.casefold() in MARKS for cell in self.cells)

    @property
    def is_tags(self) -> bool:
        """Whether the heading says that it holds tags."""
        words = set(words_of(self.heading))
        known = bool(words & TAG_WORDS) and not words & HARD
        return known and plain(self.heading) not in NO_FINDING

    @property
    def is_other(self) -> bool:
        """Whether heading or values say that it holds something that is not a tag."""
        if self.heading:
            words = words_of(self.heading)
            other = bool(words) and not self.is_tags and set(words) <= OTHER_WORDS | NAME_WORDS
            return other or plain(self.heading) in NAME_HEADERS
        values = {cell.casefold() for cell in self.filled}
        known = values <= SPLIT_VALUES or all(map(has_picture_suffix, values))
        return bool(values) and known

    def __str__(self) -> str:
        values = list(dict.fromkeys(self.filled))[:3]
        shown = ", ".join(" ".join(value[:30].split()) for value in values)
        return f"'{' '.join(self.name[:40].split())}' ({shown or 'empty'})"


def words_of(heading: str) -> list[str]:
    """Words of a heading: `LabelName`, `label_name` and `Label name` are one."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", heading)
    return re.findall(r"[^\W_]+", parted.casefold())


def is_name_heading(heading: str) -> bool:
    """Whether a heading says that the column holds names of pictures."""
    words = set(words_of(heading))
    known = plain(heading) in NAME_HEADERS or plain(heading).replace(" ", "_") in NAME_HEADERS
    return known or (bool(words & NAME_WORDS) and not words & (TAG_WORDS | HARD - {"index"}))


def is_number(cell: str) -> bool:
    """Whether a field is a number, with a point or a comma."""
    return re.fullmatch(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", cell.casefold()) is not None


def find_column(columns: Iterable[Column], wanted: str) -> Column | None:
    """The column of a heading, or of a number from 1."""
    columns = list(columns)
    same = [column for column in columns if plain(column.heading) == plain(wanted)]
    if not same and wanted.isdecimal():
        same = [column for column in columns if column.number == int(wanted) - 1]
    return same[0] if same else None
