"""Time `test.py --save cue` beside a tiny network: decoding, resizing and files of drawn images.

    python -m benchmark.cue_path [--size 500x375] [--json FILE]

The checkpoint is of the recipe "smoke" with random weights, a fifth of a millisecond an image.
Processor time, unlike the elapsed time, says the same on a busy machine.
"""

import test as program  # before torch, for the policy of its threads

# isort: split
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import tyro

from benchmark.drawn import draw_photographs
from benchmark.timing import report
from datalist.spec import resolve
from method import stage_class
from utils import checkpoint
from utils.distributed import World
from utils.flags import Predict, PredictFlags


@dataclass(frozen=True)
class Flags:
    count: int = 500
    """Images."""
    size: str = "500x375"
    """Width and height of the images, pixels."""
    stage: str = "cue-foreground"
    """cue-foreground or cue-background."""
    json: Path | None = None
    """File for the numbers."""


def save(root: Path, name: str) -> Path:
    """Write a checkpoint of a smoke-sized stage with random weights."""
    stage_type = stage_class(name)
    recipe = stage_type.recipes["smoke"]
    recipe = replace(recipe, data=replace(recipe.data, dataset=str(root)))
    torch.manual_seed(0)
    stage = stage_type(recipe, resolve(str(root)))
    content = {
        "stage": name, "recipe": asdict(recipe), "classes": list(stage.spec.classes), "step": 0,
        "network": stage.network.state_dict(),
    }  # fmt: skip
    checkpoint.save(root / "last.pt", content)
    return root / "last.pt"


def run(path: Path, split: str) -> tuple[float, float]:
    """Processor seconds and elapsed seconds of the program on a split, without its imports."""
    out = path.parent / "out" / split
    predict = Predict(out, split=split, save=("cue",), device="cpu", quiet=True)
    processor, elapsed = time.process_time(), time.perf_counter()
    program.work(0, World(), PredictFlags(path, predict))
    return time.process_time() - processor, time.perf_counter() - elapsed


def main(flags: Flags) -> None:
    width, height = (int(side) for side in flags.size.split("x"))
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "photos"
        size = (height, width)
        first, *_ = draw_photographs(root, flags.count, size, ("cat", "dog"), noise=8.0)
        (root / "ImageSets/Segmentation/one.txt").write_text(first + "\n")
        path = save(root, flags.stage)
        run(path, "one")  # to warm up
        processor, elapsed = run(path, "train")
    report(
        {
            "images": flags.count,
            "size": flags.size,
            "processor_milliseconds_an_image": 1e3 * processor / flags.count,
            "elapsed_milliseconds_an_image": 1e3 * elapsed / flags.count,
        },
        flags.json,
    )


if __name__ == "__main__":
    main(tyro.cli(Flags, description=__doc__))
