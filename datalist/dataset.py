"""Samples for training and testing: image, tags, cue and mask of an id, transformed together."""

import math
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from base import IGNORE, UserError
from base.tensor import resize as resize_maps
from datalist import augment
from datalist.bag import read_bags
from datalist.bands import Bands
from datalist.cell import resize
from datalist.cue import CueFile
from datalist.formats import SUFFIXES, is_picture, is_unread_picture
from datalist.image import RGB, read_mask, read_sized
from datalist.spec import Spec, safe_id
from datalist.tag import multi_hot, read_tags, wrong_masks

CACHE_LIMIT = 1 << 30
"""Bytes of decoded images that one process keeps at most."""


def worker_init(_: int) -> None:
    """Keep each loader process to one thread: give it to DataLoader as `worker_init_fn`."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


class Images(Dataset):
    """The images of a split with their tags, and with cues or masks where asked for.

    An item is `(index, draw)`: the random numbers of the sample depend on `(seed, draw)` alone, so
    that a resumed run with any number of workers gets the same samples as an uninterrupted one. A
    plain `index` is its own `draw`.

    Args:
        size: (height, width) of the sample; None keeps each image's own.
        mode: "warp" resizes to `size`, aspect not kept; "crop" scales, then cuts a window of
            `size`, filled up where the image is smaller; "window" resizes a random part.
        tag: read the tags; images without them (a test split) can go without.
        cue: cues to give along; only with mode "warp".
        grid: (height, width) of the cue given, nearest cells; default the file's own.
        mask: folder of ID.png to give along: `spec.mask_folder`, or labels of a network. Of the
            latter, those that a person marked as wrong are all 255.
        mirror: swap left and right in half of the draws.
        scale: with "crop", range of the factor to the image's own size.
        long: with "crop", range of the longer side in pixels, instead of `scale`.
        window: with "window", range of the part's sides as shares of the image's.
        variants: with "window", samples that are made of an image, epoch by epoch: the whole image,
            then random ones; 0: another random one for every draw.
        fill: with "crop", channels of what lies outside the image.
        jitter: spread of brightness, contrast, saturation and hue.
        seed: seed of all draws.
        cache: keep decoded images in memory, up to `CACHE_LIMIT` bytes in each process.

    A sample is a dictionary: `id`; `image` uint8 (channels, H, W), R, G, B or the bands of the
    data set; `size` int64 (2,), height and width of the file's image; `num_classes`; and as asked
    for `tag` float32 (K,), with it the number of its `bag` int64 () where the data set has bags,
    `cue` bool (C, h, w), `mask` int64 (H, W), 255 = ignore; with "crop" also `box` int64 (4,):
    top, left, bottom and right of what is image in the window.

    Raises:
        UserError: on construction for lists, tags and cues, on access for images and masks.
    """

    def __init__(
        self,
        spec: Spec,
        split: str,
        size: tuple[int, int] | None = None,
        *,
        mode: Literal["warp", "crop", "window"] = "warp",
        tag: bool = True,
        cue: CueFile | None = None,
        grid: tuple[int, int] | None = None,
        mask: Path | str | None = None,
        mirror: bool = False,
        scale: tuple[float, float] | None = None,
        long: tuple[int, int] | None = None,
        window: tuple[float, float] | None = None,
        variants: int = 0,
        fill: tuple[int, ...] = (0, 0, 0),
        jitter: tuple[float, float, float, float] | None = None,
        seed: int = 0,
        cache: bool = False,
    ) -> None:
        if mask is not None and not Path(mask).is_dir():
            raise UserError(f"the folder of masks {mask} does not exist")
        self.spec, self.size, self.mode, self.seed = spec, size, mode, seed
        self.cue, self.grid, self.mirror, self.jitter = cue, grid, mirror, jitter
        self.scale, self.long, self.fill = scale, long, fill
        self.window, self.variants = window, variants
        self.mask = Path(mask) if mask is not None else None
        self.num_classes = spec.num_classes
        self.ids = spec.ids(split)
        own = self.mask is None or self.mask.resolve() == spec.mask_folder.resolve()
        self.wrong = frozenset() if own else wrong_masks(spec)
        self.tags = read_tags(spec, self.ids) if tag else None
        self.bags = read_bags(spec, self.ids, self.tags) if self.tags is not None else None
        self._cache: dict[int, tuple] | None = {} if cache else None
        self._cached = 0
        if cue is not None:
            if cue.num_classes != self.num_classes:
                raise UserError(
                    f"{cue.source} holds cues of {cue.num_classes} classes, {spec.name} has "
                    f"{self.num_classes} (background counted)"
                )
            if lost := [name for name in self.ids if name not in cue]:
                raise UserError(
                    f"{cue.source} has no cues of {len(lost)} of the {len(self.ids)} images of "
                    f"{spec.name} {split}, the first is '{lost[0]}'"
                )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        index, draw = item if isinstance(item, tuple) else (item, item)
        name = self.ids[index]
        image, mask, size = self._decoded(index)
        variant = draw // len(self) % self.variants if self.variants else None
        key = [draw] if variant is None else [index, variant]
        rng = np.random.default_rng([self.seed, *key])
        sample = {"id": name, "num_classes": self.num_classes, "size": torch.tensor(size)}
        # Numbers are drawn even if unused, so that one option does not change the draws of another.
        flipped = rng.random() < 0.5 and self.mirror
        change = augment.draw_jitter(rng, *(self.jitter or (0, 0, 0, 0)))
        if self.mode == "crop":
            scaled = augment.draw_size(image.shape[:2], rng, self.scale, self.long)
            window = augment.draw_crop(scaled, self.size, rng)
            image = augment.crop(augment.warp(image, scaled), self.size, window, self.fill)
            if mask is not None:
                mask = augment.crop(augment.warp_mask(mask, scaled), self.size, window, IGNORE)
            top, left, bottom, right = (max(edge, 0) for edge in window)
            if flipped:
                left, right = self.size[1] - right, self.size[1] - left
            sample["box"] = torch.tensor((top, left, bottom, right))
        elif variant == 0:
            image, flipped, change = whole_input(image, self.size), False, None
            mask = augment.warp_mask(mask, self.size) if mask is not None else None
        elif self.mode == "window":
            part = augment.draw_window(rng, *self.window)
            image = augment.cut_window(image, part, self.size, cv2.INTER_LINEAR)
            if mask is not None:
                mask = augment.cut_window(mask, part, self.size, cv2.INTER_NEAREST)
        if self.jitter is not None and change is not None:
            image = augment.jitter(image, change)
        sample["image"] = _channels_first(augment.mirror(image, 1) if flipped else image)
        if self.tags is not None:
            sample["tag"] = torch.from_numpy(multi_hot(self.tags[name], self.num_classes))
        if self.bags is not None:
            sample["bag"] = torch.tensor(self.bags[index])
        if self.cue is not None:
            cue = self.cue[name] if self.grid is None else resize(self.cue[name], self.grid)
            sample["cue"] = torch.from_numpy(augment.mirror(cue, 2) if flipped else cue)
        if mask is not None:
            mask = augment.mirror(mask, 1) if flipped else mask
            sample["mask"] = torch.from_numpy(mask.astype(np.int64))
        return sample

    def _decoded(self, index: int) -> tuple[np.ndarray, np.ndarray | None, tuple[int, int]]:
        """Image and mask before anything random, and the size of the image in its file."""
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        name = self.ids[index]
        path = self.spec.image_path(name)
        image, size = read_sized(path, self.spec.bands)
        mask = self._read_mask(name, path, size) if self.mask is not None else None
        if mask is not None and image.shape[:2] != size:  # a picture too large to be decoded whole
            mask = augment.warp_mask(mask, image.shape[:2])
        if self.mode == "warp" and self.size is not None:
            image = augment.warp(image, self.size)
            mask = augment.warp_mask(mask, self.size) if mask is not None else None
        elif self.mode == "window":
            # Parts are enlarged or barely shrunk, and need no more pixels than this.
            limit = math.prod(self.size) / self.window[0] ** 2
            if (factor := math.sqrt(limit / math.prod(image.shape[:2]))) < 1:
                image = _shrunk(image, factor)
                mask = augment.warp_mask(mask, image.shape[:2]) if mask is not None else None
        used = image.nbytes + (mask.nbytes if mask is not None else 0)
        if self._cache is not None and self._cached + used <= CACHE_LIMIT:
            self._cache[index] = image, mask, size
            self._cached += used
        return image, mask, size

    def _read_mask(self, name: str, path: Path, size: tuple[int, int]) -> np.ndarray:
        if name in self.wrong:
            return np.full(size, IGNORE, np.uint8)
        file = self.mask / f"{name}.png"
        mask = read_mask(file, self.num_classes)
        if mask.shape != size:
            raise UserError(
                f"{file} is {mask.shape[0]} x {mask.shape[1]} pixels, but its image {path} is "
                f"{size[0]} x {size[1]}"
            )
        return mask


def whole_input(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image, uint8 (H, W, channels), to a size as prediction does, in grey levels."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    return resize_maps(pixels, size)[0].round().to(torch.uint8).permute(1, 2, 0).numpy()


class Photos(Dataset):
    """Pictures without any data set around them, to predict on.

    The id of a picture is its file name without suffix; with suffix where two have one stem, and
    with the folder before it where two have one file name.

    Args:
        paths: image files, and folders of them.
        longest: pixels; pictures with a longer side are shrunk to it. 0 keeps them as they are.
        bands: which bands are read, and how.

    A sample holds `id`, `image` uint8 (channels, H, W), R, G, B without `bands`, and `size` int64
    (2,), the height and width of the picture in its file. Of a file that cannot be read or named it
    holds `id` and `error`, a sentence, so that one file does not stop the others.

    Raises:
        UserError: there are no pictures, or a path that was given does not exist.
    """

    def __init__(
        self, paths: Sequence[Path | str] | Path | str, longest: int = 0, bands: Bands = RGB
    ) -> None:
        self.longest, self.bands = longest, bands
        files: list[Path] = []
        for path in map(Path, [paths] if isinstance(paths, str | Path) else paths):
            if path.is_dir():
                # Those that must be converted first are taken too, so that they are named.
                inside = sorted(path.iterdir())
                inside = [file for file in inside if is_picture(file) or is_unread_picture(file)]
                if not inside:
                    raise UserError(f"{path} holds no pictures ({', '.join(SUFFIXES)})")
                files += inside
            elif path.is_file():
                files.append(path)
            else:
                raise UserError(f"{path} does not exist")
        if not files:
            raise UserError("no pictures were given")
        self.paths = list(dict.fromkeys(files))
        self.ids = photo_ids(self.paths)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name, path = self.ids[index], self.paths[index]
        try:
            _check_file(path)
            safe_id(name)
            image, size = read_sized(path, self.bands)
        except UserError as error:
            prefix = "" if str(path) in str(error) else f"{path}: "
            return {"id": name, "error": f"{prefix}{error}"}
        if 0 < self.longest < max(image.shape[:2]):
            image = _shrunk(image, self.longest / max(image.shape[:2]))
        return {"id": name, "image": _channels_first(image), "size": torch.tensor(size)}


def _channels_first(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _shrunk(image: np.ndarray, factor: float) -> np.ndarray:
    """An image with its sides times `factor`, at least 1."""
    height, width = image.shape[:2]
    return augment.shrink(image, (max(1, round(height * factor)), max(1, round(width * factor))))


def photo_ids(paths: Sequence[Path]) -> list[str]:
    """An id for each file: its stem, its name, or folder and name, the first that is unique."""
    forms = [
        (path.stem, path.name, f"{path.parent.name}_{path.name}", f"{number}_{path.name}")
        for number, path in enumerate(paths)
    ]
    level = [0] * len(paths)
    while True:
        ids = [form[k] for form, k in zip(forms, level)]
        count = Counter(name.casefold() for name in ids)
        if max(count.values()) == 1:
            return ids
        level = [min(k + (count[name.casefold()] > 1), 3) for name, k in zip(ids, level)]


def _check_file(path: Path) -> None:
    """Say what a name in a folder is, if it is not a file."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        link = "a link to a file that cannot be reached" if path.is_symlink() else "not readable"
        raise UserError(f"{path} is {link} ({error.strerror}): it is left out") from None
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is not a file: it is left out")
