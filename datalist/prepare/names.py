"""Names of picture files as tables, labelling tools and data sets spell them, matched to ids.

A data set made by `datalist.prepare.arrange` has names.csv beside tags.csv: two columns, `id` and
`file`, the name that each picture had. Labelling tools put folders, addresses or a hash before a
name."""

import csv
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from base import UserError
from datalist.annotation import PICTURE_SUFFIXES, parts, stem
from datalist.formats import is_picture
from datalist.spec import Spec, read_text, safe_id

NAMES_FILE = "names.csv"


def has_picture_suffix(name: str) -> bool:
    """Whether a name ends as picture files do."""
    return name.rpartition(".")[2].strip().casefold() in PICTURE_SUFFIXES and "." in name


def is_picture_path(text: str) -> bool:
    """Whether a path or an address ends as picture files do."""
    return has_picture_suffix((parts(text) or [""])[-1])


def make_id(name: str) -> str:
    """An image id from the name of a file: what lists and folders cannot hold becomes "_"."""
    name = unicodedata.normalize("NFC", name)
    return re.sub(r'[\s/\\:*?"<>|,;]+|[^\w\-.+()]+', "_", name).strip("._")[:150] or "_"


def without_hash(name: str) -> str:
    """A name without the eight hexadecimal digits that Label Studio puts before it on upload.

    Eight digits without a letter may as well be a date: `NameIndex` takes them off one side alone.
    """
    return re.sub(r"^(?=\d*[a-f])[0-9a-f]{8}-(?=.)", "", name)


def without_digits(name: str) -> str:
    """A name without eight digits before it, with or without letters from a to f."""
    return re.sub(r"^[0-9a-f]{8}-(?=.)", "", name)


def number_of(name: str) -> int | None:
    """The number that a file name is, but for its suffix; None for another name."""
    digits = stem(name)
    return int(digits) if digits.isdecimal() and len(digits) <= 18 else None


class NameIndex:
    """Finds the picture that a foreign name means.

    A name matches by its whole path, by its last folders, by its file name, by its file name
    without suffix, without regard to case, as `make_id` writes it, and last without a hash prefix
    on either side; the first of these rules that gives a picture decides.

    Args:
        names: for each id the names its picture is known by: the id, and files with folders.
    """

    RULES = (
        lambda folders, name: "/".join((*folders, name)),
        lambda folders, name: "/".join((*folders[-1:], name)),
        lambda folders, name: name,
        lambda folders, name: stem(name),
        lambda folders, name: stem(name).casefold(),
        lambda folders, name: make_id(stem(name)).casefold(),
        lambda folders, name: make_id(without_hash(stem(name))).casefold(),
    )

    def __init__(self, names: Mapping[str, Iterable[str]]) -> None:
        self.tables: list[dict[str, set[str]]] = [{} for _ in self.RULES]
        self.numbers: dict[int | None, set[str]] = {}
        for image_id, name in ((k, name) for k, known in names.items() for name in known):
            *folders, last = parts(name) or [name]
            if (number := number_of(last)) is not None:
                self.numbers.setdefault(number, set()).add(image_id)
            for rule, table in zip(self.RULES, self.tables):
                table.setdefault(rule(folders, last), set()).add(image_id)

    def find(self, name: str) -> str | None:
        """Id of the picture that a name means; None where there is none."""
        # Some programs write blanks as %20; a name that really holds it comes first.
        ids = self.candidates(parts(name)) or self.candidates(parts(unquote(name)))
        if len(ids) > 1:
            raise UserError(
                f"'{name[:80]}' may be any of {len(ids)} pictures ({', '.join(sorted(ids)[:3])}): "
                "write their folders before their names"
            )
        return next(iter(ids), None)

    def counts(self, names: Iterable[str]) -> int:
        """How many names mean a picture, or several."""
        return sum(bool(self.candidates(parts(name))) for name in names)

    def candidates(self, split: Sequence[str]) -> set[str]:
        """Ids that a name, split into folders and file name, may mean."""
        if not split:
            return set()
        *folders, last = split
        for rule, table in zip(self.RULES, self.tables):
            if ids := table.get(rule(folders, last)):
                return ids
        # Eight digits may be a date. They are a hash where what follows them is a picture.
        short = without_digits(last)
        if short != last:
            return self.candidates([*folders, short])
        # Spreadsheets drop the zeros before a number.
        ids = self.numbers.get(number_of(last), set())
        return ids if len(ids) == 1 else set()


def pictures_by_name(spec: Spec) -> tuple[NameIndex, dict[str, str]]:
    """Pictures of a data set by all names they have and had, and id of each file in its folders."""
    had = read_names(spec.root / NAMES_FILE)
    files = [file for folder in spec.image for file in sorted((spec.root / folder).iterdir())]
    own = {file.name: file.stem for file in files if is_picture(file)}
    names = {name: [name, had[name]] if name in had else [name] for name in own.values()}
    return NameIndex(names), own


def read_names(path: Path) -> dict[str, str]:
    """Read names.csv; empty where it does not exist."""
    if not path.is_file():
        return {}
    try:
        rows = list(csv.reader(read_text(path).splitlines()))[1:]
    except csv.Error as error:
        raise UserError(f"{path} is not a readable CSV file: {error}") from None
    for number, row in enumerate(rows, 2):
        if len(row) != 2:
            raise UserError(f"{path}, line {number}: the line is not 'ID,FILE'")
    return {safe_id(image_id): name for image_id, name in rows}
