"""Prediction: decode, network, CRF and files of many images, overlapped.

The network runs on the main thread; what follows it (enlarging, CRF, writing) runs on a pool of
threads, since OpenCV, the CRF and zlib all let go of the interpreter.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import torch
import tyro
from torch.utils.data import DataLoader, Subset

import densecrf
from base import UserError
from base.contract import Stage, channels_last
from base.tensor import resize
from datalist import augment
from datalist.dataset import Images, Photos, worker_init
from datalist.image import read_mask
from refine import refine_scores
from utils.output import (
    is_whole,
    output_path,
    upsample,
    write_cue,
    write_label,
    write_overlay,
    write_score,
)
from utils.progress import progress

Kind = Literal["label", "score", "overlay", "cue"]


@dataclass(frozen=True)
class Predict:
    """What to predict, how, and what to leave behind."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """Folder for label/, score/, overlay/ and cue/; default: out/photo for pictures, else the
    split's name beside the checkpoint."""
    fresh: bool = False
    """Where `out` holds files of another network or other settings, move them to OUT/old-N and
    predict again; otherwise they are refused."""
    split: str = "val"
    """List of images."""
    image: tuple[Path, ...] = ()
    """Pictures, or folders of them, to segment instead of a split."""
    longest: int = 800
    """Pixels; pictures of --image with a longer side are shrunk to it. 0: never."""
    save: tuple[Kind, ...] = ("label",)
    """label: palette PNGs; score: class scores; overlay: image | prediction | truth |
    legend; cue."""
    scales: tuple[float, ...] | None = None
    """Sizes relative to the recipe's (or to the image's own); scores are averaged. None: scales
    and mirror image as the recipe says."""
    mirror: bool = False
    """Average with the prediction on the mirrored image."""
    crf: bool = False
    """Refine with the dense CRF at the image's own size."""
    restrict_to_tags: bool = False
    """Let only the image's tags (and background) occur."""
    presence: float | None = None
    """Without tags: least probability of a class that may occur; None: the recipe's. Only for
    stages that find the classes themselves (rsepm, segmenter, resegment)."""
    work_pixels: int = 2_000_000
    """Pixels; larger images are shrunk to this size before the network and the CRF. Labels have
    the image's own size."""
    memory: float = 0.0
    """GiB that the images after the network take together; 0: half of the machine's."""
    batch: int = 8
    """Images a network pass."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    processes: int = 0
    """Processes; 0: one for each CUDA device, else one."""
    threads: int = 0
    """Threads after the network, over all processes; 0: all cores."""
    quiet: bool = False
    """No progress bar."""

    def file(self, kind: Kind, image_id: str) -> Path:
        """Path of a file of one image."""
        assert self.out is not None, "test.py fills in the folder"
        return output_path(self.out, kind, image_id)


class MemoryBudget:
    """Lets threads start work only while the memory of all work in progress stays below a limit.

    Work that alone exceeds the limit runs alone.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: float):
        self.limit, self.used = limit, 0.0
        self.changed = threading.Condition()

    @contextmanager
    def take(self, need: float) -> Iterator[None]:
        """Wait for `need` bytes and hold them for the time of the block."""
        with self.changed:
            self.changed.wait_for(lambda: not self.used or self.used + need <= self.limit)
            self.used += need
        try:
            yield
        finally:
            with self.changed:
                self.used -= need
                self.changed.notify_all()


def memory_of(height: int, width: int, channels: int) -> float:
    """Bytes that an image takes after the network: scores, energies, and the CRF's lattice.

    Measured with `densecrf` on photographs; an upper bound.
    """
    return height * width * (256 + 20 * channels)


def machine_memory() -> float:
    """Bytes of physical memory; 8 GiB where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return 8.0 * 2**30


def missing(ids: Sequence[str], predict: Predict) -> list[str]:
    """Ids of which some asked-for file is not there whole."""
    return [
        name for name in ids if not all(is_whole(predict.file(kind, name)) for kind in predict.save)
    ]


def predict_split(
    stage: Stage,
    predict: Predict,
    device: torch.device,
    threads: int,
    share: tuple[int, int] = (0, 1),
) -> list[str]:
    """Predict the images of a split that are not there yet.

    Args:
        stage: keeps the stage contract.
        predict: what to do.
        device: where the network runs.
        threads: threads after the network.
        share: (k, n) takes every n-th image from the k-th on.

    Returns:
        A sentence for each of `predict.image` that could not be read. The others are done.

    Errors: UserError for a stage that cannot do what is asked, or unreadable images of a split.
    """
    check(stage, predict)
    stage.network.to(device, memory_format=torch.channels_last)
    stage.network.eval()
    # Shared out before what is there already is left out: that changes while others write.
    if predict.image:  # a picture may be another one of the same name: never left out
        data = Photos(predict.image, predict.longest)
        chosen = list(range(len(data)))[share[0] :: share[1]]
    else:
        data = Images(stage.spec, predict.split, tag=needs_tags(predict))
        chosen = list(range(len(data)))[share[0] :: share[1]]
        wanted = set(missing([data.ids[index] for index in chosen], predict))
        chosen = [index for index in chosen if data.ids[index] in wanted]
    loader = DataLoader(
        Subset(data, chosen),
        batch_size=predict.batch,
        collate_fn=list,
        num_workers=2 if device.type == "cuda" else 0,
        worker_init_fn=worker_init,
    )
    bar = progress(len(chosen), "predict", " images", predict.quiet or share[0] > 0)
    budget = MemoryBudget(predict.memory * 2**30 or machine_memory() / 2)
    pending: deque[Future] = deque()
    errors = []
    with bar, ThreadPoolExecutor(threads) as pool:
        for samples in loader:
            errors += [sample["error"] for sample in samples if "error" in sample]
            samples = [shrink(s, predict.work_pixels) for s in samples if "error" not in s]
            for group in alike(stage, samples):
                for item in run_network(stage, predict, group, device):
                    pending.append(pool.submit(finish, stage, predict, budget, *item))
            while len(pending) > 4 * max(threads, predict.batch):
                pending.popleft().result()
                bar.update()
        while pending:
            pending.popleft().result()
            bar.update()
    return errors


def needs_tags(predict: Predict) -> bool:
    """Whether the images' tags have a part in what is asked for."""
    return predict.restrict_to_tags or "cue" in predict.save


def check(stage: Stage, predict: Predict) -> None:
    """Raise UserError for what a stage cannot do, before any work."""
    if predict.image and needs_tags(predict):
        raise UserError("pictures have no tags: --image goes with labels, scores and overlays")
    if set(predict.save) - {"cue"} and "predict" not in stage.can:
        raise UserError("this stage predicts no classes: it goes with --save cue, if with anything")
    if "cue" in predict.save and "cue" not in stage.can:
        raise UserError("this stage makes no cues: give --save label, score or overlay")
    if predict.crf and not stage.recipe.prediction.test_crf:
        raise UserError("this stage's recipe has no CRF at test: leave --crf out")
    if predict.scales is not None and (not predict.scales or min(predict.scales) <= 0):
        raise UserError("--scales needs numbers above 0")


def shrink(sample: dict, pixels: int) -> dict:
    """Shrink a sample's image to at most so many pixels; `size` stays that of the file."""
    height, width = sample["image"].shape[-2:]
    if height * width <= pixels:
        return sample
    factor = (pixels / (height * width)) ** 0.5
    # A short side is one pixel at least, and the long one then ends at the limit.
    rows, columns = (min(pixels, max(1, int(side * factor))) for side in (height, width))
    image = augment.shrink(sample["image"].permute(1, 2, 0).numpy(), (rows, columns))
    pixels_first = np.ascontiguousarray(image.transpose(2, 0, 1))
    return sample | {"image": torch.from_numpy(pixels_first)}


def alike(stage: Stage, samples: list[dict]) -> Iterator[list[dict]]:
    """Split samples into groups that become inputs of one size."""
    if stage.recipe.data.fit == "warp" and samples:
        yield samples
    else:
        yield from ([sample] for sample in samples)


@torch.inference_mode()
def run_network(
    stage: Stage, predict: Predict, samples: list[dict], device: torch.device
) -> list[tuple]:
    """Scores and cues of images that become inputs of one size.

    Returns:
        For each image: its sample, scores float32 (C, h, w) or None, cues bool (C, h, w) or None.
    """
    tags = torch.stack([s["tag"] for s in samples]).to(device) if "tag" in samples[0] else None
    base = stage.recipe.data.input_size(tuple(samples[0]["image"].shape[-2:]))
    prediction = stage.recipe.prediction
    images = []
    for scale in predict.scales or prediction.test_scales:
        size = [max(1, round(side * scale)) for side in base]
        # Not rounded to grey levels: an exported program resizes alike.
        resized = [resize(s["image"][None].to(device).float(), size) for s in samples]
        images.append(channels_last(torch.cat(resized)))
    cue = stage.cues(images[0], tags).cpu().numpy() if "cue" in predict.save else None
    score = None
    if set(predict.save) != {"cue"}:
        mirror = predict.mirror or (predict.scales is None and prediction.test_mirror)
        score = stage.predict(images, tags, mirror).float().cpu().numpy()
    return [
        (s, None if score is None else score[k], None if cue is None else cue[k])
        for k, s in enumerate(samples)
    ]


def finish(
    stage: Stage, predict: Predict, budget: MemoryBudget, sample: dict, score: Any, cue: Any
) -> None:
    """Everything after the network for one image; files are written last."""
    name = sample["id"]
    if cue is not None:
        cells = np.stack(np.nonzero(cue)).astype(np.int16)
        write_cue(predict.file("cue", name), cells, cue.shape[1:], len(cue))
    if score is None:
        return
    keys = np.arange(len(score))
    if predict.restrict_to_tags:
        keys = keys[np.concatenate(([True], sample["tag"].numpy() > 0))]
        score = score[keys]
    height, width = sample["image"].shape[-2:]
    with budget.take(memory_of(height, width, len(keys))):
        write_maps(stage, predict, sample, score, keys)


def write_maps(
    stage: Stage, predict: Predict, sample: dict, score: np.ndarray, keys: np.ndarray
) -> None:
    """Refine the scores of one image and write score, overlay and label.

    Args:
        score: float32 (k, h, w).
        keys: class of each channel, rising, (k,).
    """
    name, size = sample["id"], tuple(sample["size"].tolist())
    image = sample["image"].permute(1, 2, 0).contiguous().numpy()
    if predict.crf or "label" in predict.save or "overlay" in predict.save:
        score = upsample(score, image.shape[:2])
    if predict.crf and len(keys) > 1:
        prediction = stage.recipe.prediction
        scale = prediction.crf_scale(image.shape[:2])
        score = refine_scores(score, image, densecrf.preset(prediction.test_crf, scale=scale))
    if "score" in predict.save:
        write_score(predict.file("score", name), score, keys, size)
    if "label" in predict.save or "overlay" in predict.save:
        label = most_probable(score, keys)
        if "overlay" in predict.save:
            path = predict.file("overlay", name)
            truth = None if predict.image else stage.spec.mask_path(name)
            mask = read_mask(truth) if truth and truth.is_file() else None
            if mask is not None and mask.shape != label.shape:
                small = (label.shape[1], label.shape[0])
                mask = cv2.resize(mask, small, interpolation=cv2.INTER_NEAREST)
            large, large_label, *large_mask = enlarge(
                image, label, *([] if mask is None else [mask])
            )
            truth_map = large_mask[0] if large_mask else None
            write_overlay(path, large, large_label, truth_map, stage.spec.classes)
        if "label" in predict.save:
            if label.shape != size:
                label = cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST)
            write_label(predict.file("label", name), label)


def enlarge(image: np.ndarray, *maps: np.ndarray, least: int = 400) -> tuple[np.ndarray, ...]:
    """Image (H, W, 3) and class maps (H, W), enlarged by a whole number if smaller than `least`.

    A legend beside fewer pixels could not be read.
    """
    times = -(-least // max(image.shape[:2]))
    if times < 2:
        return image, *maps
    size = (image.shape[1] * times, image.shape[0] * times)
    return (
        cv2.resize(image, size, interpolation=cv2.INTER_CUBIC),
        *(cv2.resize(label, size, interpolation=cv2.INTER_NEAREST) for label in maps),
    )


def most_probable(score: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Class of the highest score at each pixel, the lower class where two are as high.

    Args:
        score: float32 (k, H, W).
        keys: class index of each channel, rising, (k,).

    Returns:
        uint8 (H, W).
    """
    channel = cv2.reduceArgMax(score.reshape(len(score), -1), 0)  # half the time of NumPy's
    return keys.astype(np.uint8)[channel].reshape(score.shape[1:])


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
