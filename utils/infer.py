"""Prediction: decode, network, CRF and files of many images, overlapped.

What follows the network (enlarging, CRF, writing) runs on a pool of threads, since OpenCV, the CRF
and zlib all let go of the interpreter. On a CPU the network runs there, too, on few processors for
each image: layers of small images do not keep many busy. Large pictures are done in windows, after
all others.
"""

from collections import deque
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from base import UserError
from base.contract import Stage, channels_last
from base.tensor import resize
from base.thread import NETWORKS, network_pool
from base.tile import SMALLEST, Size, choose_window
from datalist import augment
from datalist.dataset import Images, Photos, worker_init
from datalist.image import image_size
from datalist.tag import multi_hot
from network.fused import fused
from utils.flags import Predict
from utils.large import predict_large
from utils.machine import MemoryBudget, memory_of
from utils.maps import path_of, write_maps
from utils.output import is_whole, write_cue
from utils.progress import progress


def predict_split(
    stage: Stage, predict: Predict, device: torch.device, threads: int,
    share: tuple[int, int] = (0, 1),
) -> list[str]:  # fmt: skip
    """Predict the images of a split that are not there yet.

    The network runs on `device`, what follows it in `threads`. A `share` (k, n) is every n-th
    image from the k-th on.

    Returns:
        A sentence for each of `predict.image` that could not be read. The others are done.

    Raises:
        UserError: the stage cannot do what is asked, or an image of a split cannot be read.
    """
    check(stage, predict)
    stage.network.to(device, memory_format=torch.channels_last)
    stage.network.eval().requires_grad_(False)  # what does not learn is predicted faster
    # Shared out before what is there already is left out: that changes while others write.
    if predict.image:  # a picture may be another one of the same name: never left out
        data = Photos(predict.image, predict.longest, stage.spec.bands)
        paths = dict(enumerate(data.paths))
        chosen = list(range(share[0], len(data), share[1]))
    else:
        data = Images(stage.spec, predict.split, tag=needs_tags(predict))
        chosen = [
            index for index in range(share[0], len(data), share[1])
            if not all(is_whole(path_of(predict, kind, data.ids[index])) for kind in predict.save)
        ]  # fmt: skip
        paths = {index: stage.spec.image_path(data.ids[index]) for index in chosen}
    windows = {index: find_window(stage, predict, paths[index]) for index in chosen}
    files = {data.ids[index]: paths[index] for index in chosen}
    loader = DataLoader(
        Subset(data, [index for index in chosen if windows[index] is None]),
        batch_size=predict.batch,
        collate_fn=list,
        num_workers=2 if device.type == "cuda" else 0,
        worker_init_fn=worker_init,
    )
    bar = progress(len(chosen), "predict", " images", predict.quiet or share[0] > 0)
    budget = MemoryBudget(predict.memory)
    on_cpu = device.type == "cpu"
    gate = BoundedSemaphore(NETWORKS if on_cpu else 1)
    pending: deque[tuple[int, Future]] = deque()
    errors, notes = [], set()

    def write(items: list[tuple]) -> list[str]:
        return [finish(stage, predict, budget, *item) for item in items]

    def run(group: list[dict]) -> list[tuple]:
        with gate:
            return run_network(stage, predict, group, device)

    def collect() -> None:
        count, future = pending.popleft()
        notes.update(future.result())
        bar.update(count)

    fast = fused(stage.network, partial(example_views, stage, device))
    with bar, fast, network_pool(threads) as pool:
        for samples in loader:
            errors += [sample["error"] for sample in samples if "error" in sample]
            samples = [
                limit_pixels(sample, predict.work_pixels) | {"file": files[sample["id"]]}
                for sample in samples if "error" not in sample
            ]  # fmt: skip
            one_size = stage.recipe.data.fit == "warp" and samples
            for group in [samples] if one_size else [[sample] for sample in samples]:
                if on_cpu:
                    job = pool.submit(lambda group: write(run(group)), group)
                    pending.append((len(group), job))
                else:
                    items = run(group)
                    pending += [(1, pool.submit(write, [item])) for item in items]
            # What is done is counted at once, so that the bar does not stand still at first.
            most = 4 * max(threads, predict.batch)
            while pending and (pending[0][1].done() or sum(n for n, _ in pending) > most):
                collect()
        while pending:
            collect()
        for index, window in windows.items():
            if window is None:
                continue
            name = data.ids[index]
            sample = {"id": name, "file": files[name]}
            if needs_tags(predict):
                sample["tag"] = torch.from_numpy(multi_hot(data.tags[name], data.num_classes))
            try:
                notes.add(predict_large(stage, predict, sample, window, run, pool, budget))
            except UserError as error:
                if not predict.image:
                    raise
                errors.append(str(error))
            bar.update()
    for note in sorted(notes - {""}):
        print(f"note: {note}")
    return errors


@torch.no_grad()
def example_views(stage: Stage, device: torch.device) -> list[Tensor]:
    """What a stage's network says of noise, the same at every call; nothing of one for cues."""
    if "predict" not in stage.can:
        return []
    shape = 1, stage.spec.bands.channels, *stage.recipe.data.input_size((96, 128))
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    (view,) = stage.views([channels_last(255 * noise.to(device))], False)
    return [part for part in view if isinstance(part, Tensor)]


def needs_tags(predict: Predict) -> bool:
    """Whether the images' tags have a part in what is asked for."""
    return predict.restrict_to_tags or "cue" in predict.save


def check(stage: Stage, predict: Predict) -> None:
    """Raise UserError for what a stage cannot do, before any work."""
    if predict.image and needs_tags(predict):
        raise UserError("pictures have no tags: --image goes with labels, scores and overlays")
    if set(predict.save) - {"cue"} and "predict" not in stage.can:
        raise UserError("this stage predicts no classes: give --save cue, if it makes cues")
    if "cue" in predict.save and "cue" not in stage.can:
        raise UserError("this stage makes no cues: give --save label, score or overlay")
    if predict.crf and not stage.recipe.prediction.test_crf:
        raise UserError("this stage's recipe has no CRF at test: leave --crf out")
    if isinstance(predict.tile, int) and not takes_windows(stage, predict):
        raise UserError(
            "--tile does not go with this stage, or what is asked of it: its scores are relative "
            "to the highest one of the whole picture"
        )
    if isinstance(predict.tile, int) and predict.tile < SMALLEST:
        raise UserError(f"--tile {predict.tile}: windows have {SMALLEST} pixels a side or more")
    if predict.scales is not None and (not predict.scales or min(predict.scales) <= 0):
        raise UserError("--scales needs numbers above 0")


def takes_windows(stage: Stage, predict: Predict) -> bool:
    """Whether what is asked for can be put together from windows of a picture."""
    finds_classes = bool(stage.presence) or (stage.presence == 0 and needs_tags(predict))
    return "tile" in stage.can and "cue" not in predict.save and not finds_classes


def find_window(stage: Stage, predict: Predict, path: Path) -> Size | None:
    """Size of the windows that a picture is predicted in; None: it is predicted as a whole."""
    usual = stage.spec.usual_size
    if predict.tile == "off" or (predict.tile == "auto" and not usual):
        return None
    if not takes_windows(stage, predict):
        return None
    try:
        return choose_window(predict.tile, usual, image_size(path))
    except UserError:
        return None  # what decodes it tells why it cannot be read


def limit_pixels(sample: dict, pixels: int) -> dict:
    """Shrink a sample's image to at most so many pixels; `size` stays that of the file."""
    height, width = sample["image"].shape[-2:]
    if height * width <= pixels:
        return sample
    image = augment.limit_pixels(sample["image"].permute(1, 2, 0).numpy(), pixels)
    pixels_first = np.ascontiguousarray(image.transpose(2, 0, 1))
    return sample | {"image": torch.from_numpy(pixels_first)}


@torch.inference_mode()
def run_network(stage: Stage, predict: Predict, samples: list, device: torch.device) -> list[tuple]:
    """Scores and cues of images that become inputs of one size.

    Returns:
        For each image: its sample, scores float32 (C, h, w) or None, cues bool (C, h, w) or None.
        For covers, the sample has the `difference`, the `differing_share` of the mirrored image.
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
        views = stage.views(images, mirror)
        score = stage.score(views, tags).float().cpu().numpy()
        if "cover" in predict.save:
            plain = stage.score(views[:1], tags)
            if mirror:
                flipped = stage.score(views[1:2], tags)
            else:
                flipped = stage.predict([images[0].flip(3)], tags, False).flip(3)
            known = tags if predict.restrict_to_tags else None
            differences = differing_share(plain, flipped, known)
            samples = [s | {"difference": d} for s, d in zip(samples, differences)]
    return [
        (s, None if score is None else score[k], None if cue is None else cue[k])
        for k, s in enumerate(samples)
    ]


def differing_share(first: Tensor, second: Tensor, known: Tensor | None) -> list[float]:
    """Share of the cells whose class, one of the tags `known` (N, K), differs in two scores."""
    both = [first, second]
    if known is not None:
        shown = nn.functional.pad(known > 0, (1, 0), value=True)[:, :, None, None]
        both = [score.masked_fill(~shown, -1) for score in both]
    labels = [score.argmax(1) for score in both]
    return (labels[0] != labels[1]).float().mean((1, 2)).tolist()


def finish(
    stage: Stage, predict: Predict, budget: MemoryBudget, sample: dict, score: Any, cue: Any
) -> str:
    """Everything after the network for one image; returns a sentence to print, or nothing."""
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
