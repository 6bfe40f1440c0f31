"""Prediction: decode, network, CRF and files of many images, overlapped.

The network runs on the main thread; what follows it (enlarging, CRF, writing) runs on a pool of
threads, since OpenCV, the CRF and zlib all let go of the interpreter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Subset

import densecrf
from base import UserError
from base.contract import Stage, channels_last
from base.tensor import resize
from datalist import augment
from datalist.dataset import Images, Photos, worker_init
from datalist.georeference import write_georeferenced
from datalist.image import read_mask
from refine import refine_scores
from utils.flags import Kind, Predict
from utils.machine import MemoryBudget, memory_of
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


def path_of(predict: Predict, kind: Kind, image_id: str) -> Path:
    """File of one image."""
    assert predict.out is not None, "test.py fills in the folder"
    return output_path(predict.out, kind, image_id)


def is_done(predict: Predict, image_id: str) -> bool:
    """Whether every asked-for file of an image is there, whole."""
    return all(is_whole(path_of(predict, kind, image_id)) for kind in predict.save)


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

    Raises:
        UserError: the stage cannot do what is asked, or an image of a split cannot be read.
    """
    check(stage, predict)
    stage.network.to(device, memory_format=torch.channels_last)
    stage.network.eval()
    # Shared out before what is there already is left out: that changes while others write.
    if predict.image:  # a picture may be another one of the same name: never left out
        data = Photos(predict.image, predict.longest, stage.spec.bands)
        files = dict(zip(data.ids, data.paths))
        chosen = list(range(len(data)))[share[0] :: share[1]]
    else:
        data = Images(stage.spec, predict.split, tag=needs_tags(predict))
        files = {}
        chosen = list(range(len(data)))[share[0] :: share[1]]
        chosen = [index for index in chosen if not is_done(predict, data.ids[index])]
    loader = DataLoader(
        Subset(data, chosen),
        batch_size=predict.batch,
        collate_fn=list,
        num_workers=2 if device.type == "cuda" else 0,
        worker_init_fn=worker_init,
    )
    bar = progress(len(chosen), "predict", " images", predict.quiet or share[0] > 0)
    budget = MemoryBudget(predict.memory)
    pending: deque[Future] = deque()
    errors, notes = [], set()
    with bar, ThreadPoolExecutor(threads) as pool:
        for samples in loader:
            errors += [sample["error"] for sample in samples if "error" in sample]
            samples = [limit_pixels(s, predict.work_pixels) for s in samples if "error" not in s]
            for sample in samples:
                name = sample["id"]
                sample["file"] = files[name] if files else stage.spec.image_path(name)
            for group in alike(stage, samples):
                for item in run_network(stage, predict, group, device):
                    pending.append(pool.submit(finish, stage, predict, budget, *item))
            # What is done is counted at once, so that the bar does not stand still at first.
            while pending and (pending[0].done() or len(pending) > 4 * max(threads, predict.batch)):
                notes.add(pending.popleft().result())
                bar.update()
        while pending:
            notes.add(pending.popleft().result())
            bar.update()
    for note in sorted(notes - {""}):
        print(f"note: {note}")
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


def limit_pixels(sample: dict, pixels: int) -> dict:
    """Shrink a sample's image to at most so many pixels; `size` stays that of the file."""
    height, width = sample["image"].shape[-2:]
    if height * width <= pixels:
        return sample
    image = augment.limit_pixels(sample["image"].permute(1, 2, 0).numpy(), pixels)
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
) -> str:
    """Everything after the network for one image; files are written last.

    Returns:
        A sentence to print, or nothing.
    """
    name = sample["id"]
    if cue is not None:
        cells = np.stack(np.nonzero(cue)).astype(np.int16)
        write_cue(path_of(predict, "cue", name), cells, cue.shape[1:], len(cue))
    if score is None:
        return ""
    keys = np.arange(len(score))
    if predict.restrict_to_tags:
        keys = keys[np.concatenate(([True], sample["tag"].numpy() > 0))]
        score = score[keys]
    height, width = sample["image"].shape[-2:]
    with budget.take(memory_of(height, width, len(keys))):
        return write_maps(stage, predict, sample, score, keys)


def write_maps(
    stage: Stage, predict: Predict, sample: dict, score: np.ndarray, keys: np.ndarray
) -> str:
    """Refine the scores of one image and write score, overlay and label.

    Where the image has a georeference, the label gets it too, as NAME.tif beside the PNG.

    Args:
        score: float32 (k, h, w).
        keys: class of each channel, rising, (k,).

    Returns:
        A sentence on a georeference that is not kept; empty where there is nothing to say.
    """
    name, size = sample["id"], tuple(sample["size"].tolist())
    image = sample["image"][:3].permute(1, 2, 0).contiguous().numpy()
    if predict.crf or "label" in predict.save or "overlay" in predict.save:
        score = upsample(score, image.shape[:2])
    if predict.crf and len(keys) > 1:
        prediction = stage.recipe.prediction
        scale = prediction.crf_scale(image.shape[:2])
        score = refine_scores(score, image, densecrf.preset(prediction.test_crf, scale=scale))
    if "score" in predict.save:
        write_score(path_of(predict, "score", name), score, keys, size)
    note = ""
    if not {"label", "overlay"} & set(predict.save):
        return note
    label = most_probable(score, keys)
    if "overlay" in predict.save:
        truth = None
        if not predict.image and (path := stage.spec.mask_path(name)).is_file():
            truth = resize_label(read_mask(path), label.shape)
        path = path_of(predict, "overlay", name)
        write_overlay(path, image, label, truth, stage.spec.classes)
    if "label" in predict.save:
        path, label = path_of(predict, "label", name), resize_label(label, size)
        note = write_georeferenced(path.parent / f"{name}.tif", label, sample["file"])
        write_label(path, label)  # last: a label that is there is done
    return note


def resize_label(label: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Class indices (H, W) at another (height, width), each taken from the nearest pixel."""
    if label.shape == size:
        return label
    return cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST)


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
