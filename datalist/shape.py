"""How large and how thin the classes are in masks: shape.json.

python -m datalist.shape FILE prints --fine, the flag of the networks that learn from the masks,
where a class is thin.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from base import UserError, entry
from base.file import write_text
from datalist.spec import read_text

THIN = 0.08
"""A class of less thickness is narrower than two cells of a decoder at stride 8, on images of
38,400 pixels as in the recipe `photo`; then logits at stride 4 are needed (ours)."""


@dataclass(frozen=True)
class Shape:
    """Medians over the masks that show a class."""

    share: float
    """Share of the image that it covers, above 0."""
    thickness: float
    """How thick it is, as a share of the root of the image's area."""


def measure_shape(region: NDArray[np.bool_]) -> Shape:
    """Share and thickness of the pixels of a class, (H, W), some of which are True.

    The mean distance of the pixels of a long stripe to its border is a quarter of its width.
    """
    inside = np.pad(region, 1).astype(np.uint8)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # A pixel at the border lies half a pixel inside.
    thickness = 4 * (float(distance[inside > 0].mean()) - 0.5) + 1
    return Shape(float(region.mean()), thickness / region.size**0.5)


def median_shapes(shapes: Mapping[int, Sequence[Shape]]) -> dict[int, Shape]:
    """Medians of share and thickness for each class."""
    rows = {index: [astuple(shape) for shape in row] for index, row in sorted(shapes.items())}
    return {index: Shape(*np.median(row, 0).tolist()) for index, row in rows.items() if row}


def write_shapes(path: Path, shapes: Mapping[int, Shape], classes: Sequence[str]) -> None:
    """Write shape.json, by name of the class."""
    content = {classes[index]: asdict(shape) for index, shape in shapes.items()}
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_by_name(path: Path) -> dict[str, Shape]:
    """Read shape.json, by name of the class."""
    try:
        content = json.loads(read_text(path))
        shapes = {
            name: Shape(float(x["share"]), float(x["thickness"])) for name, x in content.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        advice = "pseudo.py writes it beside its masks"
        raise UserError(f"{path} is not a shape.json: {advice}") from None
    for name, shape in shapes.items():
        if not (0 < shape.share <= 1 and shape.thickness > 0):
            raise UserError(f"{path}: '{name}' has the share {shape.share}: it lies in (0, 1]")
    return shapes


def read_shapes(path: Path, classes: Sequence[str]) -> dict[int, Shape]:
    """Read shape.json, by index of the class."""
    shapes = read_by_name(path)
    for name in shapes:
        if name not in classes[1:]:
            raise UserError(f"{path} is about '{name}', which is none of the classes")
    return {classes.index(name): shape for name, shape in shapes.items()}


def print_flags(file: Path) -> None:
    """Print --fine where a class is thin, else an empty line.

    Args:
        file: shape.json that pseudo.py wrote.
    """
    thin = any(shape.thickness < THIN for shape in read_by_name(file).values())
    print("--fine" if thin else "")


if __name__ == "__main__":
    import tyro

    with entry():
        tyro.cli(print_flags, config=(tyro.conf.PositionalRequiredArgs,))
