"""Class names, colours, folders and id lists of every data set."""

import dataclasses
import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from base import IGNORE, UserError
from datalist.archive import read_packed
from datalist.bands import BANDS_FILE, Bands, read_bands
from datalist.formats import SUFFIXES, is_picture

VOC_NAMES = """
    background, aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog,
    horse, motorbike, person, pottedplant, sheep, sofa, train, tvmonitor
"""
COCO_NAMES = """
    background, person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light,
    fire hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant,
    bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard,
    sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle,
    wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
    hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop,
    mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock,
    vase, scissors, teddy bear, hair drier, toothbrush
"""
VOC = tuple(name.strip() for name in VOC_NAMES.split(","))
COCO = tuple(name.strip() for name in COCO_NAMES.split(","))
HERE = Path(__file__).resolve().parent
LIST_LIMIT = 64 << 20
"""Bytes of text that an id list may hold; COCO's longest is 2.4 MB."""


@dataclass(frozen=True)
class Spec:
    """Where a data set keeps things."""

    name: str
    """voc, coco, scenes, or the name of the folder."""
    root: Path
    """Folder that everything below is relative to."""
    classes: tuple[str, ...]
    """Class names, background first."""
    lists: Mapping[str, Path]
    """File of ids of each split."""
    image: tuple[str, ...] = ("JPEGImages",)
    """Folders of images."""
    mask: str = "SegmentationClass"
    """Folder of palette PNGs, `IGNORE` = no class."""
    annotation: str = "Annotations"
    """Folder of VOC XML files, one per image."""
    instances: tuple[str, ...] = ()
    """COCO json files that tags and masks can be made from."""
    bands: Bands = Bands()
    """Which bands of the images are read, and how."""
    usual_size: tuple[int, int] | None = None
    """Median (height, width) of the images that a network learned from; None where there is no
    network, or an earlier version trained it."""

    @property
    def num_classes(self) -> int:
        """Number of classes, background counted."""
        return len(self.classes)

    @property
    def mask_folder(self) -> Path:
        """Folder of the true masks, where the data set has them."""
        return self.root / self.mask

    def ids(self, split: str, faults: list[str] | None = None) -> list[str]:
        """Read the image ids of a split, in the order of its list; `faults` as of `read_ids`.

        Raises:
            UserError: an unknown split, an unreadable list, or an id that is not a plain file name.
        """
        if split not in self.lists:
            known = ", ".join(sorted(self.lists)) or "none"
            raise UserError(f"{self.name} has no split '{split}'; its splits are: {known}")
        return read_ids(self.lists[split], self.image, faults)

    def every_id(self) -> list[str]:
        """Image ids of all splits, each once."""
        return list(dict.fromkeys(name for split in self.lists for name in self.ids(split)))

    def image_path(self, name: str) -> Path:
        """File of an image."""
        safe_id(name)
        for folder in self.image:
            path = self.root / folder
            if path.is_dir() and (file := _pictures(path, path.stat().st_mtime_ns).get(name)):
                if not (path / file).is_file():
                    raise UserError(f"{path / file} is a link to no file")
                return path / file
        folders = " or ".join(str(self.root / folder) for folder in self.image)
        raise UserError(f"image '{name}' is in a list but no picture of it is in {folders}")

    def mask_path(self, name: str) -> Path:
        """File of a true mask, whether it exists or not."""
        return self.mask_folder / (safe_id(name) + ".png")

    def annotation_path(self, name: str) -> Path:
        """File of a VOC annotation, whether it exists or not."""
        return self.root / self.annotation / (safe_id(name) + ".xml")


@lru_cache(maxsize=16)
def _pictures(folder: Path, _changed: int) -> dict[str, str]:
    """File name of the picture of each id in a folder, as it was when it last changed."""
    names = [name for name in os.listdir(folder) if is_picture(Path(name))]
    rank = {suffix: number for number, suffix in enumerate(reversed(SUFFIXES))}
    names.sort(key=lambda name: (rank[os.path.splitext(name)[1].lower()], name))
    return {os.path.splitext(name)[0]: name for name in names}


def safe_id(name: str) -> str:
    """Return an image id as it came, if it is a plain file name that cannot leave its folder.

    Raises:
        UserError: separators, drive letters, "..", a leading dot, control characters or more than
            200 characters.
    """
    plain_name = name.isprintable() and name == name.strip() and not name.startswith(".")
    if not (plain_name and 0 < len(name) <= 200) or set(name) & set('/\\:*?"<>|'):
        raise UserError(f"{name[:80]!r} is not an image id: a plain file name, without folder")
    return name


def read_text(path: Path, limit: int = LIST_LIMIT) -> str:
    """Read a UTF-8 text file, plain or gzip (by its first bytes), of at most `limit` bytes.

    Raises:
        UserError: it cannot be read, is too long, or is not text.
    """
    data = read_packed(path, limit)
    if len(data) > limit:
        raise UserError(f"{path} is longer than {limit} bytes: not a list")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a UTF-8 text file") from None


def read_ids(
    path: Path, folders: tuple[str, ...] = ("JPEGImages",), faults: list[str] | None = None
) -> list[str]:
    """Read a list of image ids: one a line, plain or gzip.

    A line may also be "JPEGImages/ID.jpg SegmentationClass/ID.png", "ID.jpg 7" or "ID -1", as in
    released lists: the first column counts.

    Args:
        folders: folders of images that may stand before an id.
        faults: takes a sentence for each wrong line, which is then left out.

    Raises:
        UserError: an empty list; without `faults` also naming file and line of an id that is not a
            plain file name, or that comes twice.
    """
    seen: dict[str, int] = {}
    for number, line in enumerate(re.split(r"\r\n|\r|\n", read_text(path)), 1):
        if not line.split():
            continue
        try:
            name = _read_id(line, folders)
            if name in seen:
                raise UserError(f"id '{name}' was already on line {seen[name]}")
            seen[name] = number
        except UserError as error:
            sentence = f"{path}, line {number}: {error}"
            if faults is None:
                raise UserError(sentence) from None
            faults.append(sentence)
    if not seen:
        raise UserError(f"{path} holds no ids: write one image id a line")
    return list(seen)


def _read_id(line: str, folders: tuple[str, ...]) -> str:
    """The id of a line of a list."""
    column = line.split()
    extra = [word for word in column[1:] if not re.fullmatch(r"-?\d+|\S+\.png", word)]
    if extra or len(column) > 2:
        raise UserError(f"{line.strip()[:80]!r} is not an id; ids hold no spaces")
    name = column[0]
    for folder in folders:
        name = name.removeprefix("/").removeprefix(folder + "/")
    stem, suffix = os.path.splitext(name)
    return safe_id(stem if suffix.lower() in SUFFIXES else name)


def read_classes(path: Path) -> tuple[str, ...]:
    """Read classes.txt: one name a line, background first.

    Raises:
        UserError: fewer than two names, more than 255, a repeated name, or another first.
    """
    names = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if not 2 <= len(names) <= IGNORE:
        raise UserError(f"{path} holds {len(names)} names: write background and 1 to 254 classes")
    if names[0].casefold() != "background":
        raise UserError(f"{path} must begin with 'background', not {names[0][:80]!r}")
    seen: set[str] = set()
    for name in names:
        if not name.isprintable() or len(name) > 100 or "," in name or ";" in name:
            raise UserError(f"{path}: {name[:80]!r} is not a class name")
        if plain(name) in seen:
            raise UserError(f"{path} holds the class {name!r} twice")
        seen.add(plain(name))
    return names


def plain(name: str) -> str:
    """Spell a class name so that case, blanks, `_` and the form of accents do not matter."""
    return re.sub(r"[\s_]+", " ", unicodedata.normalize("NFC", name)).strip().casefold()


def resolve(dataset: str, root: str | Path | None = None) -> Spec:
    """Turn the value of `--dataset` into a data set.

    Args:
        dataset: "voc", "coco", "scenes", or the path of a folder in VOC layout.
        root: folder of the first three; default data/VOC2012, data/COCO2014, data/scenes.

    Raises:
        UserError: says what is not where.
    """
    known = {"voc": (_voc, "VOC2012"), "coco": (_coco, "COCO2014"), "scenes": (_scenes, "scenes")}
    if dataset in known:
        build, folder = known[dataset]
        return build(Path(root or f"data/{folder}"))
    if not Path(dataset).is_dir():
        raise UserError(
            f"'{dataset}' is not a data set: give voc, coco, scenes or the path of a folder that "
            "holds JPEGImages, classes.txt and ImageSets/Segmentation"
        )
    if root is not None:
        raise UserError(f"'{dataset}' is a folder already: a root goes with voc, coco or scenes")
    return _folder(Path(dataset))


def _voc(root: Path) -> Spec:
    # The archive unpacks to VOCdevkit/VOC2012: any of the three levels will do.
    levels = [root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"]
    top = next((path for path in levels if (path / "JPEGImages").is_dir()), None)
    if top is None:
        raise UserError(
            f"no VOC2012 at {root}: the folder that holds JPEGImages and Annotations is needed"
        )
    augmented = (top / "SegmentationClassAug").is_dir()
    # "train" is what this field trains on; the challenge's own 1464 images are "train_voc".
    files = {split: split for split in ("train", "train_aug", "train_voc", "val", "test")}
    files |= {"train": "train_aug", "train_voc": "train"}
    return Spec(
        name="voc",
        root=top,
        classes=VOC,
        lists={split: HERE / f"VOC2012/{name}.txt.gz" for split, name in files.items()},
        mask="SegmentationClassAug" if augmented else "SegmentationClass",
    )


def _coco(root: Path) -> Spec:
    pairs = [("train2014", "val2014"), ("images/train2014", "images/val2014")]
    image = next((pair for pair in pairs if any((root / name).is_dir() for name in pair)), None)
    if image is None:
        raise UserError(f"no COCO 2014 at {root}: folders train2014 and val2014 are needed")
    return Spec(
        name="coco",
        root=root,
        classes=COCO,
        lists={split: HERE / f"COCO2014/{split}.txt.gz" for split in ("train", "val")},
        image=image,
        instances=("annotations/instances_train2014.json", "annotations/instances_val2014.json"),
    )


def _folder(root: Path) -> Spec:
    if not (root / "JPEGImages").is_dir():
        raise UserError(f"{root} has no folder JPEGImages: put the images there as ID.jpg")
    if not (root / "classes.txt").is_file():
        raise UserError(f"{root} has no classes.txt: write one class name a line, background first")
    lists = {path.stem: path for path in sorted((root / "ImageSets/Segmentation").glob("*.txt"))}
    if not lists:
        raise UserError(f"{root} has no ImageSets/Segmentation/train.txt: one image id a line")
    return Spec(
        name=root.resolve().name,
        root=root,
        classes=read_classes(root / "classes.txt"),
        lists=lists,
        bands=read_bands(root / BANDS_FILE),
    )


def _scenes(root: Path) -> Spec:
    if not root.exists():
        from datalist import scenes  # drawing needs more imports than reading

        scenes.draw(root)
    return dataclasses.replace(_folder(root), name="scenes")
