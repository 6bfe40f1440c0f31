"""Time loading: our data set beside the released loader, which zooms with scipy.

    python -m benchmark.loader [--json FILE]

Photographs of VOC's size are drawn; both loaders decode them and bring them to 321 x 321 with
their mirror images, tags and cues, in one process. The pictures must be alike: the released zoom
puts corner on corner, OpenCV edge on edge, so smooth pictures differ by a few grey levels.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image
from scipy.ndimage import zoom

from benchmark.drawn import draw_photographs
from benchmark.timing import median, report
from datalist.cue import CueFile
from datalist.dataset import Images, worker_init
from datalist.spec import resolve


@dataclass(frozen=True)
class Flags:
    images: int = 24
    """Photographs to load."""
    size: int = 321
    """Side of the network's input, pixels."""
    times: int = 5
    """Passes to take the median of."""
    json: Path | None = None
    """File for the numbers."""


def released(path: Path, size: int, cells: np.ndarray, flipped: bool) -> tuple:
    """Decode, zoom by scipy at order 1, subtract the mean, paint the cues cell by cell."""
    image = np.asarray(Image.open(path)).astype(np.float32)
    factor = (size / image.shape[0], size / image.shape[1], 1)
    image = zoom(image, factor, order=1)[..., ::-1] - np.array([104.0, 117.0, 123.0])
    cue = np.zeros((2, 41, 41), np.float32)
    cue[tuple(cells)] = 1
    if flipped:
        image, cue = image[:, ::-1], cue[..., ::-1]
    return np.ascontiguousarray(image.transpose(2, 0, 1), np.float32), cue


def main(flags: Flags) -> None:
    worker_init(0)  # one thread, as in a loader process
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "photos"
        draw_photographs(root, flags.images, (375, 500), ("thing",))
        spec = resolve(str(root))
        rng = np.random.default_rng(1)
        cues = {name: rng.random((2, 41, 41)) < 0.1 for name in spec.ids("train")}
        cue = CueFile.collect(cues).write(Path(name) / "cue.npz")
        size = (flags.size, flags.size)
        data = Images(spec, "train", size=size, cue=cue, mirror=True)
        cells = [np.stack(np.nonzero(cues[name])) for name in data.ids]
        paths = [spec.image_path(name) for name in data.ids]

        plain = Images(spec, "train", size=size, cue=cue)
        gaps = []
        for index in range(min(4, len(plain))):
            sample = plain[index]
            image, painted = released(paths[index], flags.size, cells[index], False)
            image = image[::-1] + np.array([123.0, 117.0, 104.0])[:, None, None]
            gaps.append(np.abs(sample["image"].numpy() - image).mean())
            if not (sample["cue"].numpy() == painted).all() or gaps[-1] > 3:
                sys.exit(
                    f"The two loaders disagree on {plain.ids[index]} by {gaps[-1]:.1f} levels."
                )

        seconds = median(lambda: [data[index] for index in range(len(data))], flags.times)
        theirs = median(
            lambda: [
                released(path, flags.size, cell, index % 2 == 0)
                for index, (path, cell) in enumerate(zip(paths, cells))
            ],
            max(1, flags.times // 2),
        )
    report(
        {
            "milliseconds_an_image_ours": 1e3 * seconds / flags.images,
            "milliseconds_an_image_released": 1e3 * theirs / flags.images,
            "ratio": theirs / seconds,
            "mean_difference_grey_levels": float(np.mean(gaps)),
        },
        flags.json,
    )


if __name__ == "__main__":
    main(tyro.cli(Flags, description=__doc__))
