"""Numbers masks of other programs anew: values, or colours, become class indices.

`python -m datalist.prepare.masks labels mydata --map 255=cat` reads labels/NAME.png and writes
mydata/SegmentationClass/ID.png; masks that are there already are kept in SegmentationClass.old-N.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from tqdm import tqdm

from base import IGNORE, UserError, entry
from base.file import new_folder, numbered_folder
from datalist.decode import is_tiff
from datalist.formats import is_picture
from datalist.image import image_size, mask_colours, read_image, read_mask, write_mask
from datalist.palette import palette
from datalist.prepare.names import pictures_by_name
from datalist.spec import Spec, plain, resolve
from datalist.tag import read_tags
from datalist.tiff import Tiff

TAG = "TAG"
"""What stands for the only tag of a picture."""
ENDINGS = re.compile(r"[_\-. ](mask|masks|label|labels|gt|seg|segmentation|annotation)$", re.I)
"""What other programs write behind the name of a picture."""


@dataclass(frozen=True)
class Arguments:
    """Number masks anew: values or colours become class indices."""

    source: Annotated[Path, tyro.conf.Positional]
    """Folder of masks, named as the pictures, also with _mask or the like behind the name."""
    dataset: Annotated[Path, tyro.conf.Positional]
    """Folder in VOC layout; its SegmentationClass gets the masks."""
    map: tuple[str, ...] = ()
    """VALUE=CLASS for each value that changes: a number or a colour #rrggbb, and the name of a
    class, background, ignore, or TAG (the only tag of the picture). Other numbers stay as they are;
    every colour has to be named. Default: the colours of VOC."""
    out: Path | None = None
    """Folder to make, ID.png in it, instead of the data set's SegmentationClass."""


def convert(arguments: Arguments) -> tuple[Spec, int, list[str]]:
    """Write the masks, all or none: data set, number of masks, sentences on what was left out.

    Raises:
        UserError: no mask has a picture, or a mask does not fit or holds what is not a class.
    """
    spec, source = resolve(str(arguments.dataset)), arguments.source
    if not source.is_dir():
        raise UserError(f"{source} is not a folder of masks")
    coloured, meaning = read_map(arguments.map, spec)
    matched, lost = match(spec, source)
    tags = read_tags(spec, list(matched)) if TAG in meaning.values() else {}
    with new_folder(arguments.out) if arguments.out else new_masks(spec) as part:
        for name, path in tqdm(matched.items(), desc="masks", leave=False, disable=None):
            values = by_colour(path) if coloured else read_numbers(path)
            mask = renumber(path, values, coloured, meaning, tags.get(name, ()))
            size = image_size(spec.image_path(name))
            if mask.shape != size:
                own, other = (" x ".join(map(str, sides)) for sides in (mask.shape, size))
                raise UserError(f"{path} is {own} pixels, its image {other}")
            write_mask(part / f"{name}.png", mask)
    notes = [f"{len(lost)} masks have no picture, such as {lost[0]}"] if lost else []
    return spec, len(matched), notes


@contextmanager
def new_masks(spec: Spec) -> Iterator[Path]:
    """Give a folder for masks ID.png, which all enter the data set at the end, or none.

    Masks that are replaced are kept in SegmentationClass.old-N.
    """
    folder = spec.root / f".{spec.mask}.{os.getpid()}.new"
    with new_folder(folder) as part:
        yield part
    spec.mask_folder.mkdir(exist_ok=True)
    names = [path.name for path in folder.iterdir()]
    if old := [path for name in names if (path := spec.mask_folder / name).is_file()]:
        kept = numbered_folder(spec.root, f"{spec.mask}.old")
        for path in old:
            os.replace(path, kept / path.name)
    for name in names:
        os.replace(folder / name, spec.mask_folder / name)
    folder.rmdir()


def read_map(words: Sequence[str], spec: Spec) -> tuple[bool, dict[int, int | str]]:
    """Whether colours are mapped, and the class of each value or colour 0xrrggbb."""
    known: dict[str, int | str] = {plain(name): k for k, name in enumerate(spec.classes)}
    known = {"ignore": IGNORE, plain(TAG): TAG} | known
    meaning: dict[int, int | str] = {}
    for word in words:
        value, _, name = word.partition("=")
        if not re.fullmatch(r"\d{1,3}|#[0-9a-fA-F]{6}", value) or plain(name) not in known:
            raise UserError(
                f"--map {word} is not VALUE=CLASS: give a number or #rrggbb, and one of "
                f"{', '.join(spec.classes)}, ignore, {TAG}"
            )
        meaning[int(value[1:], 16) if value[0] == "#" else int(value)] = known[plain(name)]
    coloured = {word[0] == "#" for word in words}
    if len(coloured) > 1:
        raise UserError("--map takes numbers or colours, not both")
    own = [*range(spec.num_classes), IGNORE]
    if not words:
        colours = (palette(256).astype(np.int64) << [16, 8, 0]).sum(1)
        return True, {int(colours[k]): k for k in own}
    return (True, meaning) if coloured.pop() else (False, {**{k: k for k in own}, **meaning})


def match(spec: Spec, source: Path) -> tuple[dict[str, Path], list[str]]:
    """Mask file of each image id, and names of files that belong to no picture.

    Raises:
        UserError: no file belongs to a picture, or two to the same.
    """
    index, own = pictures_by_name(spec)
    matched: dict[str, Path] = {}
    lost = []
    for path in sorted(source.rglob("*")):
        if not is_picture(path) or not path.is_file():
            continue
        relative = path.relative_to(source).as_posix()
        stem, suffix = os.path.splitext(relative)
        marked = ENDINGS.sub("", stem) + suffix
        name = (index.find(marked) if marked != relative else None) or index.find(relative)
        if name is None or path.resolve() == spec.image_path(name).resolve():
            lost.append(relative)
        elif name in matched:
            raise UserError(f"{matched[name]} and {path} are both masks of '{name}'")
        else:
            matched[name] = path
    if not matched:
        first = min(own.values(), default="ID")
        raise UserError(
            f"{source} holds no mask of a picture of {spec.root}: masks are named as the pictures, "
            f"such as {first}.png or {first}_mask.png"
        )
    return matched, lost


def renumber(
    path: Path,
    values: np.ndarray,
    coloured: bool,
    meaning: Mapping[int, int | str],
    tags: Sequence[int],
) -> np.ndarray:
    """Class indices of the values or colours of a mask, uint8 (H, W)."""
    mask = np.zeros(values.shape, np.uint8)
    for value in np.unique(values).tolist():
        word = f"#{value:06x}" if coloured else str(value)
        if value not in meaning:
            raise UserError(
                f"{path} holds {word}, which is not a class: give --map {word}=CLASS, or "
                f"{word}=ignore, and the others"
            )
        if (target := meaning[value]) == TAG:
            if len(tags) != 1:
                raise UserError(
                    f"{path}: its picture has {len(tags)} tags, so {TAG} is none of them: "
                    f"name the class of {word}, or draw this mask again"
                )
            target = tags[0]
        mask[values == value] = target
    return mask


def read_numbers(path: Path) -> np.ndarray:
    """Values of a mask, int64 (H, W); a TIFF of whole numbers is one, too."""
    if not is_tiff(path):
        return read_mask(path).astype(np.int64)
    with Tiff(path) as tiff:
        if tiff.bands != 1 or tiff.key.dtype.kind == "f":
            raise UserError(
                f"{path} has {tiff.bands} bands of type {tiff.key.dtype}: a mask has one of whole "
                "numbers. Name colours with --map '#rrggbb=CLASS'"
            )
        return tiff.read()[..., 0].astype(np.int64)


def by_colour(path: Path) -> np.ndarray:
    """Colours of a mask as numbers 0xrrggbb, int64 (H, W)."""
    colours = {} if is_tiff(path) else mask_colours(path)
    if colours:
        table = np.array([colours.get(k, (0, 0, 0)) for k in range(256)])
        pixels = table[read_mask(path)]
    else:
        pixels = read_image(path)
    return (pixels.astype(np.int64) << [16, 8, 0]).sum(2)


def main(arguments: Arguments) -> None:
    """Write the masks, and say how many."""
    spec, count, notes = convert(arguments)
    last = f"{arguments.out or spec.mask_folder}: {count} masks"
    print(*(f"note: {note}" for note in notes), last, sep="\n")


if __name__ == "__main__":
    with entry():
        main(tyro.cli(Arguments, description=Arguments.__doc__))
