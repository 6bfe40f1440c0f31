"""Prediction of a picture in windows, with memory that does not grow with its area."""

import math
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path

import numpy as np
import torch

from base.contract import Stage
from base.tile import MARGIN, Block, Size, Tiling, window_step
from datalist.augment import shrink
from datalist.image import STRIP, PictureFile
from refine import refine_scores
from utils.flags import Predict
from utils.machine import MemoryBudget, memory_of
from utils.maps import Shown, crf_preset, most_probable, resize_label, write_files
from utils.progress import progress

BATCH_PIXELS = 1 << 19
"""Pixels that the windows of one network pass have together, if it is more than one window."""
BLOCKS_WAITING = 8
"""Blocks of pixels that wait for a thread at most."""


class HeldRows:
    """Rows of a picture, read once from top to bottom; `step` pixels a side become one."""

    def __init__(self, picture: PictureFile, step: int):
        self.picture, self.step = picture, step
        self.width, self.channels = -(-picture.size[1] // step), picture.bands.channels
        self.first = 0
        self.pixels = np.empty((0, self.width, self.channels), np.uint8)

    def hold(self, first: int, last: int) -> None:
        """Read up to row `last`; rows above `first` are gone then."""
        parts = [self.pixels[first - self.first :]]
        top = self.first + len(self.pixels)
        count = max(1, STRIP // (self.picture.size[1] * self.step))
        self.first = first
        for row in range(top, last, count):
            rows = min(count, last - row)
            part = self.picture.read(row * self.step, 0, rows * self.step)
            parts.append(part if self.step == 1 else shrink(part, (rows, self.width)))
        self.pixels = np.concatenate(parts)

    def cut(self, rows: slice, columns: slice) -> np.ndarray:
        """A part that is held, (h, w, channels), copied."""
        rows = slice(rows.start - self.first, rows.stop - self.first)
        return np.ascontiguousarray(self.pixels[rows, columns])


class StoredLabel:
    """Class indices in a temporary file, whose rows are read as those of an array of a shape.

    One is stored for `step` pixels a side. The file has no name, and ends with the program.
    """

    def __init__(self, folder: Path, shape: Size, step: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.shape, self.step = shape, step
        self.width = -(-shape[1] // step)
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def store(self, rows: slice, columns: slice, label: np.ndarray) -> None:
        """Store a part, uint8 (h, w), counted in stored pixels."""
        for row, values in zip(range(rows.start, rows.stop), label):
            self.file.seek(row * self.width + columns.start)
            self.file.write(values.tobytes())

    def __getitem__(self, rows: slice) -> np.ndarray:
        first, last, _ = rows.indices(self.shape[0])
        top, bottom = first // self.step, -(-last // self.step)
        self.file.seek(top * self.width)
        stored = np.frombuffer(self.file.read((bottom - top) * self.width), np.uint8)
        label = stored.reshape(-1, self.width).repeat(self.step, 0).repeat(self.step, 1)
        return label[first - top * self.step : last - top * self.step, : self.shape[1]]


Scores = dict[tuple[int, int], np.ndarray]
"""Scores (C, h, w) of windows by row and column."""
Network = Callable[[list[dict]], list[tuple]]
"""Gives sample, scores (C, h, w) and cues of images of one size, as `utils.infer.run_network`."""


class LargePicture:
    """The prediction of an open picture in windows of a (height, width), in pixels of the file.

    A window is shrunk as a picture of its size would be, to `work_pixels`. Scores and overlay have
    at most so many pixels, too. `sample` has `id` and `file`, and `tag` where tags are needed.
    """

    def __init__(
        self, stage: Stage, predict: Predict, sample: dict, picture: PictureFile, window: Size
    ):
        self.stage, self.settings, self.sample, self.picture = stage, predict, sample, picture
        step = window_step(window, predict.work_pixels)
        size, self.window = shrunk(picture.size, step), shrunk(window, step)
        self.keys = np.arange(stage.spec.num_classes)
        if predict.restrict_to_tags:
            self.keys = self.keys[np.concatenate(([True], sample["tag"].numpy() > 0))]
        self.crf = None
        if predict.crf and len(self.keys) > 1:
            self.crf = crf_preset(stage, self.window)
        widths = [kernel.sxy for kernel in self.crf.kernels] if self.crf else [0]
        self.unit = math.ceil(math.sqrt(math.prod(size) / predict.work_pixels))
        self.tiling = Tiling(size, self.window, math.ceil(MARGIN * max(widths)), self.unit)
        self.rows, self.pixels = HeldRows(picture, step), math.prod(size)
        size = shrunk(size, self.unit)
        image, label = np.empty((*size, 3), np.uint8), np.empty(size, np.uint8)
        score = np.empty((len(self.keys) * ("score" in predict.save), *size), np.uint8)
        self.shown = Shown(image, label, score, self.keys, 0.0)
        self.differences: list[float] = []
        self.label = StoredLabel(Path(str(predict.out)), picture.size, step)

    def run(self, network: Network, pool: Executor, budget: MemoryBudget) -> str:
        """Predict and write; windows and blocks go through a pool. Returns as `write_files`."""
        blocks = self.tiling.blocks
        count = sum(map(len, blocks))
        scores: Scores = {}
        pending: deque[Future] = deque()
        bar = progress(count, self.sample["id"], " parts", self.settings.quiet)
        with bar, budget.reserve(self.memory()):
            for row in blocks:
                touching = self.tiling.rows.touching(row[0].rows)
                bottom = self.tiling.rows.starts[touching[-1]] + self.window[0]
                self.rows.hold(row[0].rows.start, max(bottom, row[0].rows.stop))
                scores = {key: score for key, score in scores.items() if key[0] in touching}
                self.add_scores(scores, touching, network, pool)
                for block in row:
                    image = self.rows.cut(block.rows, block.columns)[..., :3]
                    pending.append(pool.submit(self.refine, block, image, dict(scores), budget))
                    while len(pending) > BLOCKS_WAITING:
                        self.collect(*pending.popleft().result())
                        bar.update()
            while pending:
                self.collect(*pending.popleft().result())
                bar.update()
        self.shown.confidence /= self.pixels
        if "cover" in self.settings.save:
            self.sample["difference"] = float(np.mean(self.differences))
        return write_files(self.stage, self.settings, self.sample, self.shown, self.label)

    def memory(self) -> float:
        """Bytes that the picture takes beside its blocks."""
        height = self.tiling.blocks[0][0].rows.stop + self.window[0]
        held = 2 * height * self.rows.width * self.rows.channels
        whole = 0 if self.picture.windowed else math.prod(self.picture.size) * self.rows.channels
        return held + whole + self.shown.image.nbytes + self.shown.score.nbytes

    def add_scores(self, scores: Scores, rows: list, network: Network, pool: Executor) -> None:
        """Run the network on the windows of some rows that have no scores yet."""
        height, width = self.window
        starts = self.tiling.rows.starts, self.tiling.columns.starts
        todo = [(r, c) for r in rows for c in range(len(starts[1])) if (r, c) not in scores]
        pixels = math.prod(self.stage.recipe.data.input_size(self.window))
        count = max(1, min(self.settings.batch, BATCH_PIXELS // pixels))

        def run(keys: list[tuple[int, int]]) -> list[tuple]:
            samples = []
            for row, column in keys:
                top, left = starts[0][row], starts[1][column]
                image = self.rows.cut(slice(top, top + height), slice(left, left + width))
                pixels_first = torch.from_numpy(image.transpose(2, 0, 1).copy())
                samples.append(self.sample | {"image": pixels_first})
            return network(samples)

        batches = [todo[first : first + count] for first in range(0, len(todo), count)]
        for keys, items in zip(batches, pool.map(run, batches)):
            for key, (sample, score, _) in zip(keys, items):
                scores[key] = score[self.keys]
                self.differences.append(sample.get("difference", 0.0))

    def refine(
        self, block: Block, image: np.ndarray, scores: Scores, budget: MemoryBudget
    ) -> tuple[Block, Shown, np.ndarray]:
        """What a block becomes: the core as it is shown, with the sum of its confidence, and its
        class indices."""
        height, width = image.shape[:2]
        with budget.take(memory_of(height, width, len(self.keys))):
            score = self.tiling.blend(scores, block)
            if self.crf:
                least = self.stage.recipe.prediction.test_crf_least
                score = refine_scores(score, np.ascontiguousarray(image), self.crf, least)
            rows, columns = block.inside
            score, image = score[:, rows, columns], image[rows, columns]
            label = most_probable(score, self.keys)
            size = shrunk(label.shape, self.unit)
            small = np.zeros((0, *size), np.uint8)
            if len(self.shown.score):
                mean = shrink(score.transpose(1, 2, 0), size).transpose(2, 0, 1)
                small = np.rint(255 * mean).astype(np.uint8)
            total = float(score.max(0).sum())
            shown = Shown(shrink(image, size), resize_label(label, size), small, self.keys, total)
            return block, shown, label

    def collect(self, block: Block, shown: Shown, label: np.ndarray) -> None:
        """Put what a block became where it belongs."""
        self.label.store(block.core_rows, block.core_columns, label)
        top, left = (part.start // self.unit for part in (block.core_rows, block.core_columns))
        height, width = shown.label.shape
        rows, columns = slice(top, top + height), slice(left, left + width)
        self.shown.image[rows, columns] = shown.image
        self.shown.label[rows, columns] = shown.label
        self.shown.score[:, rows, columns] = shown.score
        self.shown.confidence += shown.confidence


def shrunk(size: Sequence[int], step: int) -> Size:
    """(height, width) at which `step` pixels a side are one, the last ones fewer."""
    return -(-size[0] // step), -(-size[1] // step)


def predict_large(
    stage: Stage, predict: Predict, sample: dict, window: Size,
    network: Network, pool: Executor, budget: MemoryBudget,
) -> str:  # fmt: skip
    """Predict a picture in windows; arguments and result as of `LargePicture` and its `run`.

    Raises:
        UserError: the file cannot be read.
    """
    with PictureFile(sample["file"], stage.spec.bands) as picture:
        return LargePicture(stage, predict, sample, picture, window).run(network, pool, budget)
