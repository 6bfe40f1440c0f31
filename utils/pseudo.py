"""Masks from the score files of test.py, several images at a time."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from base import IGNORE, UserError
from datalist.answer import GroupFile, Rejection, read_answers
from datalist.augment import limit_pixels
from datalist.image import read_image, read_mask, write_mask
from datalist.shape import Shape, measure_shape, median_shapes, write_shapes
from datalist.spec import Spec
from utils import checksum
from utils.distributed import main_first, read_world, sharing
from utils.flags import Pseudo
from utils.machine import MemoryBudget, cores, memory_of
from utils.maps import resize_label
from utils.output import Score, is_whole, output_path, read_score, upsample
from utils.progress import in_threads
from utils.record import keep_record, origin_of


def check_seeds(flags: Pseudo, spec: Spec) -> None:
    """Raise UserError where an image of the split has no seeds."""
    if not (flags.seeds / "score").is_dir():
        raise UserError(f"{flags.seeds} has no folder score/: make it with test.py --save score")
    ids = spec.ids(flags.split)
    lost = [i for i in ids if not output_path(flags.seeds, "score", i).is_file()]
    if lost:
        raise UserError(
            f"{flags.seeds} has no scores of {len(lost)} images of {spec.name} {flags.split}, the "
            f"first is '{lost[0]}': finish test.py, or give the right --split"
        )


def survey(flags: Pseudo, spec: Spec, collect: Callable, title: str = "contrast") -> list[Any]:
    """What `collect` (of maps, image and classes) says of each image of the split, in order."""

    def read(image_id: str) -> Any:
        stored = read_score(flags.seeds / "score" / f"{image_id}.npz")
        foreground = stored.keys > 0
        image = open_image(image_id, flags, spec)
        height, width = size = image.shape[:2]
        with budget.take(memory_of(height, width, int(foreground.sum()) + 1)):
            seed = upsample(stored.score[foreground].astype(np.float32) / 255, size)
            return collect(seed, visible(image), stored.keys[foreground].tolist())

    budget = MemoryBudget(flags.memory)
    return list(in_threads(read, spec.ids(flags.split), cores(), title, flags.quiet))


def open_image(image_id: str, flags: Pseudo, spec: Spec) -> np.ndarray:
    """The image, of `work_pixels` at most, (H, W, bands)."""
    return limit_pixels(read_image(spec.image_path(image_id), spec.bands), flags.work_pixels)


def visible(image: np.ndarray) -> np.ndarray:
    """The first three bands of an image."""
    return np.ascontiguousarray(image[..., :3])


def write_masks(
    flags: Pseudo,
    recipe: Any,
    spec: Spec,
    mask_of: Callable[..., Any],
    affinity: Any,
    contrast: dict[str, Any] | None = None,
    shrink: Mapping[int, float] | None = None,
) -> None:
    """Write the masks that are not there yet, and the record of their settings.

    Processes of torchrun share the list. `affinity` is the stage whose `walk` takes the seeds to
    the boundaries, or None; `contrast` and `shrink` are kept with the masks.

    Raises:
        UserError: the folder holds masks of other settings, and --fresh is not given; or answers
            are wrong.
    """
    used = bool(contrast and contrast["used"])
    reject = load_answers(flags, spec.classes, used)
    chosen: dict[str, Any] = {"contrast_chosen": contrast} if contrast else {}
    if shrink:
        chosen["shrink"] = {spec.classes[k]: round(x, 4) for k, x in shrink.items()}
    if reject:
        chosen["answers"] = reject.checksum
    budget, world = MemoryBudget(flags.memory), read_world()

    def convert(image_id: str) -> None:
        stored = read_score(flags.seeds / "score" / f"{image_id}.npz")
        label = make_label(stored, image_id)
        if reject:
            for index in stored.keys[stored.keys > 0].tolist():
                label[(label == index) & reject.pixels(image_id, index, label.shape)] = IGNORE
        write_mask(output_path(flags.out, "label", image_id), label)

    def make_label(stored: Score, image_id: str) -> np.ndarray:
        image = open_image(image_id, flags, spec)
        foreground = stored.keys > 0
        seed = stored.score[foreground].astype(np.float32) / 255
        if affinity and len(seed):
            device = next(affinity.network.parameters()).device
            pixels = torch.from_numpy(image).permute(2, 0, 1).to(device)
            seed = affinity.walk(pixels, torch.from_numpy(seed)).cpu().numpy()
        height, width = size = image.shape[:2]
        background, keys = None, stored.keys[foreground].tolist()
        with budget.take(memory_of(height, width, len(seed) + 1)):
            if recipe.background_factor and not foreground.all():
                background = upsample(stored.score[~foreground].astype(np.float32) / 255, size)[0]
            mask = mask_of(upsample(seed, size), visible(image), background=background, keys=keys)
        classes = np.full(256, IGNORE, np.uint8)
        classes[: len(keys) + 1] = [0, *keys]
        return resize_label(classes[mask], stored.size)

    with sharing(world, flags.out):
        with main_first(world):  # it moves files of other settings away
            keep_settings(flags, recipe, spec, chosen)
        # Shared out before what is there already is left out: that changes while others write.
        ids = spec.ids(flags.split)[world.rank :: world.size]
        ids = [i for i in ids if not is_whole(output_path(flags.out, "label", i))]
        threads, quiet = max(1, cores() // world.local_size), flags.quiet or not world.main
        for _ in in_threads(convert, ids, threads, "masks", quiet):
            pass
    if world.main:
        (flags.out / "shape.json").unlink(missing_ok=True)  # of masks made before
        if used:
            keep_shapes(flags, spec)


def keep_shapes(flags: Pseudo, spec: Spec) -> None:
    """Write OUT/shape.json: how large and how thin the classes are in the masks."""
    shapes: dict[int, list[Shape]] = {}
    for image_id in spec.ids(flags.split):
        label = read_mask(output_path(flags.out, "label", image_id))
        for index in np.unique(label[(label > 0) & (label != IGNORE)]).tolist():
            shapes.setdefault(index, []).append(measure_shape(label == index))
    write_shapes(flags.out / "shape.json", median_shapes(shapes), spec.classes)


def load_answers(flags: Pseudo, classes: tuple[str, ...], contrast: bool) -> Rejection | None:
    """Groups of cells that a person rejects, for masks with or without contrast, if any."""
    if flags.answers is None:
        if flags.groups:
            raise UserError("--groups goes with --answers FILE")
        return None
    groups = GroupFile.read(flags.groups or flags.seeds / "groups.npz")
    reject = Rejection(groups, read_answers(flags.answers, classes))
    if groups.contrast != contrast:
        # Cells of the maps are larger than what contrast tells apart, and made its masks worse.
        given, wanted = ("without contrast", "with it")[:: -1 if groups.contrast else 1]
        raise UserError(
            f"{flags.answers} is about groups that were made {given}, and these masks are made "
            f"{wanted}: run without answers once, and answer the new page"
        )
    return reject


def keep_settings(flags: Pseudo, recipe: Any, spec: Spec, chosen: dict[str, Any]) -> None:
    """Write settings, with what was chosen for the folder, and checksums to OUT/pseudo.json."""
    seeds = checksum.folder_checksums(flags.seeds / "score", spec.ids(flags.split), ".npz")
    settings = {**asdict(recipe), "purpose": flags.purpose, "seeds": checksum.total(seeds)}
    settings |= {"work_pixels": flags.work_pixels, **chosen}
    if flags.affinity:
        settings["affinity"] = f"{checksum.file_checksum(flags.affinity):08x}"
    more = {"seeds": str(flags.seeds)}
    more |= origin_of(flags.dataset, str(flags.root or ""), flags.split, spec.classes)
    defaults = asdict(type(recipe)())
    keep_record(flags.out / "pseudo.json", settings, flags.fresh, more, defaults)
