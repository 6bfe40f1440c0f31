"""A small data set in VOC layout, made anew for each test that wants one.

HYPOTHESIS_PROFILE=fuzz gives every reader 10 000 damaged files instead of 100.
"""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from datalist.image import write_mask

# No deadline: how long a case takes says nothing on a machine that does other work.
settings.register_profile("quick", deadline=None)
settings.register_profile(
    "fuzz", deadline=None, max_examples=10_000, suppress_health_check=list(HealthCheck)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "data"
CLASSES = ("background", "cat", "traffic light", "dog")
TAGS = {"a": (1,), "b": (1, 2), "c": (3,), "d": (), "e": (2, 3), "f": (1,)}
SIZES = {"a": (20, 30), "b": (31, 17), "c": (24, 24), "d": (9, 40), "e": (24, 24), "f": (1, 1)}


def make_folder(root: Path) -> Path:
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    rng = np.random.default_rng(0)
    for name, tags in TAGS.items():
        image = rng.integers(0, 255, (*SIZES[name], 3), dtype=np.uint8)
        cv2.imwrite(str(root / "JPEGImages" / f"{name}.jpg"), image)
        mask = rng.choice([0, *tags, 255], SIZES[name]).astype(np.uint8)
        write_mask(root / "SegmentationClass" / f"{name}.png", mask)
        objects = "".join(
            f"<object><name>{CLASSES[tag]}</name><difficult>{tag - 1}</difficult>"
            "<part><name>head</name></part></object>"
            for tag in tags
        )
        xml = f"<annotation><filename>{name}.jpg</filename>{objects}</annotation>"
        (root / "Annotations" / f"{name}.xml").write_text(xml)
    (root / "ImageSets/Segmentation/train.txt").write_text("a\nb\nc\nd\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("e\nf\n")
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "own")


@pytest.fixture(scope="session")
def reference() -> Path:
    if not REFERENCE.is_dir():
        pytest.skip(f"the reference data is not at {REFERENCE}")
    return REFERENCE
