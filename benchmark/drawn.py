"""Drawn photographs for benchmarks that read files."""

from pathlib import Path

import cv2
import numpy as np

from datalist.augment import Size


def draw_photographs(
    root: Path, count: int, size: Size, tags: tuple[str, ...], noise: float = 0.0
) -> list[str]:
    """Draw photographs in VOC layout on the list `train`.

    Args:
        root: folder to make.
        count: photographs.
        size: height and width, pixels.
        tags: the classes; each photograph has one of them, in turn.
        noise: standard deviation of the noise of each pixel, of 255.

    Returns:
        Their ids.
    """
    rng = np.random.default_rng(0)
    for folder in ("JPEGImages", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    ids = [f"photo{n}" for n in range(count)]
    for name in ids:
        coarse = rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)
        image = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
        if noise:
            noisy = image + rng.normal(0, noise, image.shape)
            image = np.clip(noisy, 0, 255).astype(np.uint8)
        cv2.imwrite(str(root / "JPEGImages" / f"{name}.jpg"), image)
    (root / "classes.txt").write_text("\n".join(("background", *tags)) + "\n")
    rows = [f"{name},{tags[n % len(tags)]}\n" for n, name in enumerate(ids)]
    (root / "tags.csv").write_text("".join(rows))
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(ids) + "\n")
    return ids
