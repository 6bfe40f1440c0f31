"""Data sets that any test may use: small scenes, and a folder of five other classes.

HYPOTHESIS_PROFILE=fuzz gives every reader 10 000 damaged files instead of 100.
"""

import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from cues import cues_of
from hypothesis import HealthCheck, settings
from made import layout

from datalist import scenes
from datalist.image import write_mask
from datalist.spec import resolve

# No deadline: how long a case takes says nothing on a machine that does other work.
settings.register_profile("quick", deadline=None)
settings.register_profile(
    "fuzz", deadline=None, max_examples=10_000, suppress_health_check=list(HealthCheck)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

FOUR = ("background", "rust", "paint", "crack", "moss")


@pytest.fixture(scope="session", autouse=True)
def interrupts():
    """A job in the background may have started with Ctrl-C ignored, which programs inherit."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def two_threads():
    """Leave room for whatever else this machine does."""
    torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(scope="session")
def reference():
    """Loads outputs of a released program (tests/reference/README.md) as tensors.

    `full` loads the larger file beside the repository, or skips.
    """
    small = Path(__file__).parent / "reference"
    large = Path(__file__).parents[2] / "shared/data/reference"

    def load(name: str, full: bool = False) -> dict[str, torch.Tensor]:
        path = (large if full else small) / f"{name}.npz"
        if full and not path.is_file():
            pytest.skip(f"{name}.npz is not in shared/data/reference beside the repository")
        with np.load(path) as file:
            data = {key: torch.from_numpy(np.asarray(file[key])) for key in file}
        return {k: v.float() if v.dtype == torch.float16 else v for k, v in data.items()}

    return load


@pytest.fixture(scope="session")
def scenes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded data set with 12 images to train on and 4 to test on, six foreground classes."""
    return scenes.draw(tmp_path_factory.mktemp("data") / "scenes", train=12, val=4)


@pytest.fixture(scope="session")
def external_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded data set's other world, with masks of other classes."""
    folder = tmp_path_factory.mktemp("data") / "external"
    return scenes.draw(folder, train=6, val=2, world="external")


@pytest.fixture(scope="session")
def four_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody's own folder: background and four classes, coloured discs, odd image sizes.

    Image 0 has no tag, image 1 has them all.
    """
    tags = {f"wall-{n}": {0: [], 1: [1, 2, 3, 4]}.get(n, [1 + n % 4]) for n in range(10)}
    ids = list(tags)
    root = tmp_path_factory.mktemp("data") / "four"
    layout(root, FOUR, tags, train=ids[:8], val=ids[8:])
    rng = np.random.default_rng(7)
    for name, row in tags.items():
        height, width = (int(n) for n in rng.integers(41, 78, 2))
        image = rng.integers(90, 130, (height, width, 3)).astype(np.uint8)
        mask = np.zeros((height, width), np.uint8)
        for tag in row:
            place = (int(width * (tag - 0.5) / 4), height // 2)
            colour = [(200, 60, 20), (40, 60, 220), (10, 10, 10), (40, 190, 60)][tag - 1]
            cv2.circle(image, place, width // 9, colour, -1)
            cv2.circle(mask, place, width // 9, tag, -1)
        cv2.imwrite(str(root / "JPEGImages" / f"{name}.jpg"), image[..., ::-1])
        write_mask(root / "SegmentationClass" / f"{name}.png", mask)
    return root


@pytest.fixture(scope="session")
def scenes_cue(scenes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cue file of `scenes_root`."""
    path = tmp_path_factory.mktemp("cue") / "scenes.npz"
    return cues_of(resolve(str(scenes_root)), (20, 20), path)


@pytest.fixture(scope="session")
def four_cue(four_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cue file of `four_root`."""
    path = tmp_path_factory.mktemp("cue") / "four.npz"
    return cues_of(resolve(str(four_root)), (20, 20), path)
