"""Lay pictures side by side: images, activation maps, cues, masks and truth.

    python -m script.study.figure PICTURE "CAM=out/cam/seed" "mask=out/cam/sure" truth=truth

Each further word is TITLE=WHAT: a folder of test.py or pseudo.py, whose labels are shown or,
without labels, the strongest map of each pixel in the colour of its class; a cue file; or `truth`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from base import IGNORE, UserError, entry
from base.file import replacing
from datalist.cue import CueFile
from datalist.image import read_mask, read_shown
from datalist.palette import palette
from datalist.spec import Spec, resolve
from datalist.tag import read_tags
from utils.flags import DatasetFlags
from utils.output import blend, output_path, read_score, upsample

Picture = NDArray[np.uint8]
GAP, HEAD = 4, 20
"""Pixels between pictures, and above them for the titles."""


@dataclass(frozen=True)
class Flags(DatasetFlags):
    out: tyro.conf.Positional[Path]
    """Picture to write."""
    columns: tyro.conf.Positional[tuple[str, ...]]
    """TITLE=WHAT of each column after the image."""
    split: str = "train"
    """List of images."""
    id: tuple[str, ...] = ()
    """Images; default: the first with more than one tag, as one class alone shows little."""
    rows: int = 5
    """Number of images, where they are not named."""
    size: tuple[int, int] = (200, 220)
    """Height and width of each picture, pixels."""


def sheet(path: Path, rows: list[list[Picture]], above: list[str], size: tuple[int, int]) -> None:
    """Write RGB pictures (H, W, 3) in rows, each at (height, width), with titles above."""
    height, width = size
    shape = len(rows[0]) * (width + GAP) - GAP, HEAD + len(rows) * (height + GAP) - GAP
    page = Image.new("RGB", shape, "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=13)
    for column, title in enumerate(above):
        pen.text((column * (width + GAP) + width / 2, HEAD / 2), title, "black", font, "mm")
    for number, row in enumerate(rows):
        for column, picture in enumerate(row):
            small = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
            page.paste(small, (column * (width + GAP), HEAD + number * (height + GAP)))
    with replacing(path) as part:
        jpeg = path.suffix.lower() in (".jpg", ".jpeg")
        page.save(part, "JPEG" if jpeg else "PNG", quality=88, optimize=True)


def marked(image: Picture, label: NDArray) -> Picture:
    """Lay places of classes, of any size, 255 = none, over an image that is faded elsewhere."""
    label = cv2.resize(label.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    faded = (image * 0.35 + 160).astype(np.uint8)
    # Background cues show the image; every other place is faded or coloured.
    return np.where((label == IGNORE)[..., None], faded, blend(image, label, 0.85))


def strongest(image: Picture, path: Path) -> Picture:
    """Lay the strongest map of each pixel over an image, in the colour of its class."""
    stored = read_score(path)
    classes = stored.keys[stored.keys > 0]
    if not len(classes):
        return image
    score = upsample(stored.score[stored.keys > 0], stored.size) / 255
    weight = 0.8 * score.max(0)[..., None]
    mixed = image * (1 - weight) + palette(256)[classes[score.argmax(0)]] * weight
    return np.rint(mixed).astype(np.uint8)


def column(what: str, spec: Spec) -> Callable[[Picture, str], Picture]:
    """What makes the picture of a column, of an image and its id."""
    path = Path(what)
    if what == "truth":
        return lambda image, name: blend(image, read_mask(spec.mask_path(name)))
    if (path / "label").is_dir():
        return lambda image, name: blend(image, read_mask(output_path(path, "label", name)))
    if (path / "score").is_dir():
        return lambda image, name: strongest(image, output_path(path, "score", name))
    if path.suffix not in (".npz", ".pickle", ".gz"):
        raise UserError(f"{what} has neither label nor score, and is not a cue file or 'truth'")
    cues = CueFile.open(path)

    def cued(image: Picture, name: str) -> Picture:
        cue = cues[name]
        return marked(image, np.where(cue.any(0), cue.argmax(0), IGNORE))

    return cued


def main(flags: Flags) -> None:
    spec = resolve(flags.dataset, flags.root)
    titles, whats = zip(*(word.partition("=")[::2] for word in flags.columns))
    draw = [column(what, spec) for what in whats]
    ids = flags.id
    if not ids:
        tags = read_tags(spec, spec.ids(flags.split))
        ids = tuple(name for name, row in tags.items() if len(row) > 1)[: flags.rows]
    rows = []
    for name in ids:
        image = read_shown(spec.image_path(name), spec.bands)
        rows.append([image, *(picture(image, name) for picture in draw)])
    if not rows:
        raise UserError(f"no image of {spec.name} {flags.split} has two tags: give --id ID")
    sheet(flags.out, rows, ["image", *titles], flags.size)
    print(flags.out)


if __name__ == "__main__":
    with entry():
        main(tyro.cli(Flags, description=__doc__))
