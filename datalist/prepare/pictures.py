"""Picture files of a folder, and the tags that folders per class give them."""

import filecmp
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from base import UserError
from datalist.formats import CONVERT, SUFFIXES, foreign, is_picture
from datalist.prepare.names import make_id
from datalist.spec import plain

SPLIT_WORDS = {
    *("train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval")
}
"""Words of folders that are parts of a data set."""
WRAPPERS = {
    *("images", "image", "imgs", "img", "photos", "pictures", "data", "dataset", "set", "folder"),
    *("jpegimages", "bilder", "split", "splits"),
}
"""Words of folders that hold pictures of all kinds."""
NOTHING = {
    *("good", "normal", "healthy", "ok", "okay", "negative", "clean", "intact", "undamaged"),
    *("none", "nothing", "empty", "nodamage", "nodefect", "defectfree", "unaffected", "control"),
}
"""Words of folders whose pictures may show none of the classes."""
MASK_ENDING = re.compile(
    r"[ ._-]*[_. -](mask|masks|seg|segmentation|segmented|label|labels|gt|groundtruth|annotation)"
    r"([ ._-]?\d+)?$",
    re.IGNORECASE,
)
"""End of the name of a mask that lies beside its picture."""
EXAMPLES = 5
"""Names printed of what was left out."""


@dataclass
class Picture:
    """An image file, and the names of what it shows."""

    file: Path
    tags: list[str] = field(default_factory=list)


def find_pictures(source: Path) -> tuple[list[Path], list[str]]:
    """Image files below a folder (in VOC layout, its JPEGImages), by name; what was left out."""
    folder = source / "JPEGImages"
    source = folder if folder.is_dir() else source
    paths = (path for path in sorted(source.rglob("*")) if not path.is_dir())
    files = [path for path in paths if "/." not in f"/{path.relative_to(source).as_posix()}"]
    pictures, masks = without_masks([p for p in files if is_picture(p) and p.is_file()])
    other = [path for path in files if foreign(path)]
    if not pictures:
        what = f"is read: {to_convert(other)}" if other else f"ends in {', '.join(SUFFIXES)}"
        raise UserError(f"{source} holds no picture that {what}")
    broken = [path.name for path in files if is_picture(path) and not path.is_file()]
    left_out = []
    if masks:
        left_out.append(
            f"{len(masks)} files are masks beside their pictures, and not pictures: "
            f"{some(path.name for path in masks)}; masks go to SegmentationClass."
        )
    if other:
        left_out.append(f"{len(other)} files are not read: {to_convert(other)}.")
    if broken:
        left_out.append(f"{len(broken)} names are links to no file: {some(broken)}.")
    return pictures, left_out


def to_convert(files: list[Path]) -> str:
    """What files of other formats are, one of each format, and what to do with them."""
    kinds = {foreign(file): file.name for file in reversed(files)}
    return "; ".join(f"'{name[:80]}' {CONVERT[kind]}" for kind, name in kinds.items())


def without_masks(pictures: list[Path]) -> tuple[list[Path], list[Path]]:
    """Pictures, and the masks among them: `X_mask.png` where the same folder has an `X`."""
    known = {(path.parent, path.stem.casefold()) for path in pictures}
    masks = {
        path
        for path in pictures
        if (front := MASK_ENDING.sub("", path.stem)) != path.stem
        and (path.parent, front.casefold()) in known
    }
    return [path for path in pictures if path not in masks], sorted(masks)


def words_of(name: str) -> list[str]:
    """Words of the name of a folder, without numbers: `training_set2` is training, set."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W\d_]+", parted.casefold())


def is_split(name: str) -> bool:
    """Whether a folder is named as a part of a data set, and not as a class."""
    words = set(words_of(name))
    return bool(words & SPLIT_WORDS) and words <= SPLIT_WORDS | WRAPPERS


def may_be_background(name: str) -> bool:
    """Whether a class may mean that a picture shows nothing, as `good` and `no_damage` do."""
    words = words_of(name)
    denies = len(words) > 1 and words[0] in {"no", "non", "not", "without", "kein", "keine", "ohne"}
    return denies or bool(set(words) & NOTHING)


def by_folder(
    files: list[Path], source: Path, background: tuple[str, ...] | None = None
) -> tuple[dict[str, Picture], str]:
    """Tags from the folder that each file is in, below `source`.

    A file that lies in the folders of several classes, with the same name and content, has all
    their tags; other files of one name are told apart by their folders. Pictures in the folders
    `background` show none of the classes; None: it was not said whether there are such.

    Raises:
        UserError: the folders are parts of a data set, may be background, or are not there.
    """
    root = class_root(files, source)
    tops = {file.relative_to(root).parts[0] for file in files if file.parent != root}
    check_background(tops, root, background)
    none = {plain(name) for name in background or ()}
    same_id: dict[str, list[Picture]] = {}
    for file in files:
        known = same_id.setdefault(make_id(file.stem), [])
        picture = next((p for p in known if filecmp.cmp(p.file, file, shallow=False)), None)
        if picture is None:
            known.append(picture := Picture(file))
        folder = file.relative_to(root).parts[:-1][:1]
        picture.tags.extend("background" if plain(name) in none else name for name in folder)
    pictures: dict[str, Picture] = {}
    for name, known in same_id.items():
        for number, picture in enumerate(known):
            folders = picture.file.relative_to(root).parts[:-1]
            own = make_id("_".join([*folders, picture.file.stem])) if number else name
            if own in pictures or (number and own in same_id):
                other = pictures.get(own) or same_id[own][0]
                raise twice(own, picture.file, other.file)
            pictures[own] = picture
    count = Counter(tag for picture in pictures.values() for tag in set(picture.tags))
    lines = [f"  {tag}: {number} pictures" for tag, number in count.most_common(10)]
    below = "" if root == source else f" below {root.relative_to(source)}"
    return pictures, "\n".join([f"layout: a folder per class{below}; {len(count)} classes", *lines])


def class_root(files: list[Path], source: Path) -> Path:
    """The folder whose folders are the classes: the only one that holds more than one."""
    root = source
    while True:
        paths = [file.relative_to(root).parts for file in files]
        tops = {path[0] for path in paths if len(path) > 1}
        parts = sorted(filter(is_split, tops))
        deep = any(len(path) > 2 and is_split(path[0]) for path in paths)
        if len(tops) > 1 and parts and (len(parts) == len(tops) or deep):
            raise UserError(
                f"the folders of {root} are parts of a data set ({', '.join(parts)}), not "
                f"classes: give one of them, such as {root / parts[0]}"
            )
        if len(tops) != 1 or any(len(path) == 1 for path in paths):
            return root
        (top,) = tops
        if any(len(path) == 2 for path in paths):
            wraps = is_split(top) or set(words_of(top)) <= WRAPPERS | {""}
            return root / top if wraps else root  # its pictures have no folder of their own
        root = root / top


def check_background(tops: set[str], root: Path, background: tuple[str, ...] | None) -> None:
    """Ask which folders hold pictures that show none of the classes; UserError is the question."""
    if background is None:
        doubtful = sorted(top for top in tops if may_be_background(top))
        if doubtful:
            flags = " ".join(f'"{top}"' for top in doubtful)
            raise UserError(
                f"{root}: the pictures in {some(doubtful)} may show none of the classes. If so, "
                f"add --background-folder {flags}. If these are classes like the others, add "
                "--background-folder without a name"
            )
        return
    known = {plain(top) for top in tops}
    if lost := [name for name in background if plain(name) not in known]:
        raise UserError(f"{root} has no folder {lost[0]!r}: it has {some(sorted(tops))}")


def twice(name: str, *files: Path) -> UserError:
    """The refusal of two files that would get one id."""
    return UserError(f"{' and '.join(map(str, files))} would both be '{name}': rename one")


def some(names: Iterable[str]) -> str:
    """The first few of some names, for a message."""
    names = list(names)
    rest = f", and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
    return ", ".join(f"'{name[:80]}'" for name in names[:EXAMPLES]) + rest
