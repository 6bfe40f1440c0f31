"""Prediction: decode, network, CRF and files of many images, overlapped.

The network runs on the main thread; what follows it (enlarging, CRF, writing) runs on a pool of
threads, since OpenCV, the CRF and zlib all let go of the interpreter.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import torch
import tyro
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

import densecrf
from base import UserError
from datalist.dataset import Images, Photos, worker_init
from datalist.image import read_mask
from utils.output import (
    is_whole,
    output_path,
    upsample,
    write_cue,
    write_label,
    write_overlay,
    write_score,
)

Kind = Literal["label", "score", "overlay", "cue"]


@dataclass(frozen=True)
class Predict:
    """What to predict, how, and what to leave behind."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """Folder for label/, score/, overlay/ and cue/; default: out/photo for pictures, else the
    split's name beside the checkpoint."""
    split: str = "val"
    """List of images."""
    image: tuple[Path, ...] = ()
    """Pictures, or folders of them, to segment instead of a split; overlays get a legend."""
    longest: int = 800
    """Pixels; pictures of --image with a longer side are shrunk to it. 0: never."""
    save: tuple[Kind, ...] = ("label",)
    """label: palette PNGs; score: class scores; overlay: image | prediction | truth; cue."""
    scales: tuple[float, ...] = (1.0,)
    """Sizes relative to the recipe's (or to the image's own); scores are averaged."""
    mirror: bool = False
    """Average with the prediction on the mirrored image."""
    crf: bool = False
    """Refine with the dense CRF at the image's own size."""
    restrict_to_tags: bool = False
    """Let only the image's tags (and background) occur."""
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


def missing(ids: Sequence[str], predict: Predict) -> list[str]:
    """Ids of which some asked-for file is not there whole."""
    return [
        name
        for name in ids
        if not all(is_whole(output_path(predict.out, kind, name)) for kind in predict.save)
    ]


def predict_split(
    stage: Any,
    predict: Predict,
    device: torch.device,
    threads: int,
    share: tuple[int, int] = (0, 1),
) -> list[str]:
    """Predict the images of a split that are not there yet.

    Args:
        stage: an object that keeps the stage contract.
        predict: what to do.
        device: where the network runs.
        threads: threads after the network.
        share: (k, n) takes every n-th image from the k-th on.

    Returns:
        A sentence for each of `predict.image` that could not be read. They hinder no other.

    Errors: UserError for a stage that cannot do what is asked, or unreadable images of a split.
    """
    check(stage, predict)
    stage.to(device)
    stage.network.eval()
    need_tag = predict.restrict_to_tags or not stage.background or "cue" in predict.save
    # Shared out before what is there already is left out: that changes while others write.
    if predict.image:  # a picture may be another one of the same name: never left out
        data = Photos(predict.image, predict.longest)
        places = range(len(data))[share[0] :: share[1]]
    else:
        data = Images(stage.spec, predict.split, tag=need_tag)
        places = range(len(data))[share[0] :: share[1]]
        wanted = set(missing([data.ids[place] for place in places], predict))
        places = [place for place in places if data.ids[place] in wanted]
    loader = DataLoader(
        Subset(data, places),
        batch_size=predict.batch,
        collate_fn=list,
        num_workers=2 if device.type == "cuda" else 0,
        worker_init_fn=worker_init,
    )
    bar = tqdm(
        total=len(places),
        unit=" images",
        desc="predict",
        disable=predict.quiet or share[0] > 0,
        dynamic_ncols=True,
    )
    pending: deque[Future] = deque()
    broken = []
    with ThreadPoolExecutor(threads) as pool:
        for samples in loader:
            broken += [sample["error"] for sample in samples if "error" in sample]
            for group in alike(stage, [s for s in samples if "error" not in s]):
                for item in run_network(stage, predict, group):
                    pending.append(pool.submit(finish, stage, predict, *item))
            while len(pending) > 4 * max(threads, predict.batch):
                pending.popleft().result()
                bar.update()
        while pending:
            pending.popleft().result()
            bar.update()
    bar.close()
    return broken


def check(stage: Any, predict: Predict) -> None:
    """Refuse what a stage cannot do, before any work."""
    if predict.image and (predict.restrict_to_tags or "cue" in predict.save):
        raise UserError("pictures have no tags: --image goes with labels, scores and overlays")
    if predict.crf and not stage.background:
        raise UserError("--crf needs a background channel, which this stage's scores lack")
    if "label" in predict.save and not stage.background:
        raise UserError(
            "this stage scores no background, so it has no labels: give --save score and let "
            "evaluate.py find the threshold"
        )
    if not predict.scales or min(predict.scales) <= 0:
        raise UserError("--scales needs numbers above 0")


def alike(stage: Any, samples: list[dict]) -> Iterator[list[dict]]:
    """Split samples into groups that become inputs of one size."""
    if stage.fit == "warp" and samples:
        yield samples
    else:
        yield from ([sample] for sample in samples)


@torch.inference_mode()
def run_network(stage: Any, predict: Predict, samples: list[dict]) -> list[tuple]:
    """Scores and cues of images that become inputs of one size.

    Returns:
        For each image: its sample, scores float32 (channels, h, w), cues bool (C, h, w) or None.
    """
    tag = torch.stack([s["tag"] for s in samples]).to(stage.device) if "tag" in samples[0] else None
    base = stage.input_size(samples[0]["image"].shape[-2:])
    images = []
    for scale in predict.scales:
        size = tuple(max(1, round(side * scale)) for side in base)
        image = torch.stack([torch.from_numpy(resize(s["image"], size)) for s in samples])
        images.append(image.to(stage.device, non_blocking=True))
    cue = stage.cues(images[0], tag).cpu().numpy() if "cue" in predict.save else None
    if set(predict.save) == {"cue"}:
        score = [None] * len(samples)
    else:
        score = stage.predict(images, tag, predict.mirror).float().cpu().numpy()
    return [(s, score[k], None if cue is None else cue[k]) for k, s in enumerate(samples)]


def resize(image: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Resize an RGB uint8 image (3, H, W) to (3, *size), bilinear."""
    pixels = image.permute(1, 2, 0).numpy()
    if pixels.shape[:2] != size:
        pixels = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def finish(stage: Any, predict: Predict, sample: dict, score: Any, cue: Any) -> None:
    """Everything after the network for one image; files are written last."""
    name = sample["id"]
    if cue is not None:
        cells = np.stack(np.nonzero(cue)).astype(np.int16)
        write_cue(output_path(predict.out, "cue", name), cells, cue.shape[1:], len(cue))
    if score is None:
        return
    image = sample["image"].permute(1, 2, 0).contiguous().numpy()
    size = tuple(sample["size"].tolist())
    keys = np.arange(0 if stage.background else 1, stage.num_classes)
    if predict.restrict_to_tags:
        allowed = np.concatenate(([True], sample["tag"].numpy() > 0))
        score = score[allowed[keys]]
        keys = keys[allowed[keys]]
    if predict.crf or "label" in predict.save or "overlay" in predict.save:
        score = upsample(score, image.shape[:2])
    if predict.crf and len(keys) > 1:
        score = refine(score, image, stage.test_crf())
    if "score" in predict.save:
        write_score(output_path(predict.out, "score", name), score, keys, size)
    if "label" in predict.save or "overlay" in predict.save:
        label = most_probable(score, keys)
        if "overlay" in predict.save:
            path = output_path(predict.out, "overlay", name)
            if predict.image:
                write_overlay(path, *enlarge(image, label), classes=stage.spec.classes)
            else:
                truth = stage.spec.mask_path(name)
                write_overlay(path, image, label, read_mask(truth) if truth.is_file() else None)
        if "label" in predict.save:
            if label.shape != size:
                label = cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST)
            write_label(output_path(predict.out, "label", name), label)


def enlarge(image: np.ndarray, label: np.ndarray, least: int = 400) -> tuple:
    """Image (H, W, 3) and label (H, W), a whole number of times larger if smaller than `least`.

    A legend beside fewer pixels could not be read.
    """
    times = -(-least // max(label.shape))
    if times < 2:
        return image, label
    size = (label.shape[1] * times, label.shape[0] * times)
    return (
        cv2.resize(image, size, interpolation=cv2.INTER_CUBIC),
        cv2.resize(label, size, interpolation=cv2.INTER_NEAREST),
    )


def refine(score: np.ndarray, image: np.ndarray, preset: densecrf.Preset) -> np.ndarray:
    """CRF marginals of scores, both (C, H, W), for an RGB uint8 image (H, W, 3).

    Source: deploy/demo.py of SEC: probabilities clipped at 1e-5, energies their negative log.
    """
    energy = np.empty(score.shape, np.float32)
    for target, channel in zip(energy, score):  # one map at a time stays in the cache
        np.maximum(channel, 1e-5, out=target)
        np.negative(np.log(target, out=target), out=target)
    return densecrf.mean_field(energy, image, preset.kernels, preset.steps, threads=1)


def most_probable(score: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Class of the highest score at each pixel, the lower class where two are as high.

    Args:
        score: float32 (k, H, W).
        keys: class index of each channel, rising, (k,).

    Returns:
        uint8 (H, W).
    """
    place = cv2.reduceArgMax(score.reshape(len(score), -1), 0)  # half the time of NumPy's
    return keys.astype(np.uint8)[place].reshape(score.shape[1:])


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
