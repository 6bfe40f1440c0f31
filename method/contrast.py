"""Whether contrast helps the maps of a folder, and which measure suits each class.

The rule sees images, tags and maps, and no mask. A measure suits a class if many pixels at the peak
of the class's map stand out from where the map is low. Contrast is used in a folder if the products
of maps and contrast fall into two groups of values: then low values are not the thing. Where a
thing has many colours, as most things on photographs, its own pixels fill the gap between the
groups, and the square root of the product separates better; there contrast is not used.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from base import UserError
from refine.contrast import MEASURES, measure_contrast, peak_share, split_values, weigh

TIE = 0.85
"""Measures whose share is at least this part of the best one's are averaged (ours)."""
PIXELS = 40_000
"""Evidence is taken from images of this many pixels at most; all measures are relative to the
size."""
SUBSETS = tuple(
    subset for count in range(1, len(MEASURES) + 1) for subset in combinations(MEASURES, count)
)
"""All ways to average measures."""


@dataclass(frozen=True)
class Evidence:
    """What one map of one image says."""

    index: int
    """Class."""
    share: dict[str, float]
    """Share of the peak that stands out, by measure."""
    separation: dict[tuple[str, ...], tuple[float, float]]
    """How well two groups separate the product and its square root, by subset of measures."""


@dataclass(frozen=True)
class Contrast:
    """What was chosen for a folder, and why."""

    measures: dict[int, tuple[str, ...]]
    """Measures of each class; none: the map alone."""
    used: bool
    """Whether maps are multiplied by contrast."""
    separation: tuple[float, float] = (0.0, 0.0)
    """Mean over all maps of how well two groups separate the product, and its square root."""
    share: dict[int, dict[str, float]] | None = None
    """Mean share of the peak that stands out, by class and measure."""

    def record(self, classes: Sequence[str]) -> dict[str, Any]:
        """Plain values to keep with the masks."""
        plain = asdict(self) | {
            "measures": {classes[k]: list(names) for k, names in self.measures.items()},
            "share": {classes[k]: row for k, row in (self.share or {}).items()},
        }
        return plain

    def lines(self, classes: Sequence[str]) -> list[str]:
        """What to print."""
        product, root = self.separation
        verb, sign = ("used", ">=") if self.used else ("not used", "<")
        lines = [
            f"contrast {verb}: two groups explain {product:.3f} of the variance of map x contrast "
            f"{sign} {root:.3f} of that of its square root"
        ]
        for index, row in (self.share or {}).items():
            shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in row.items())
            chosen = " and ".join(self.measures.get(index, ())) or "the map alone"
            lines.append(f"  {classes[index]}: {chosen} (of the peak stand out: {shares})")
        return lines


def collect_evidence(
    seed: NDArray[np.float32], image: NDArray[np.uint8], keys: Sequence[int]
) -> list[Evidence]:
    """Evidence of the maps of one image.

    Args:
        seed: maps in [0, 1], (k, H, W).
        image: RGB, (H, W, 3).
    """
    if not len(seed):
        return []
    factor = min(1.0, (PIXELS / (image.shape[0] * image.shape[1])) ** 0.5)
    if factor < 1:
        size = tuple(max(1, round(side * factor)) for side in image.shape[1::-1])
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        seed = np.stack([cv2.resize(x, size) for x in seed])
    maps = {name: measure_contrast(image, seed, name) for name in MEASURES}
    result = []
    for cam, index in zip(seed, keys):
        separation = {}
        for subset in SUBSETS:
            product = weigh(cam, [maps[name] for name in subset])
            separation[subset] = (split_values(product)[1], split_values(np.sqrt(product))[1])
        share = {name: peak_share(maps[name], cam) for name in MEASURES}
        result.append(Evidence(int(index), share, separation))
    return result


def choose_contrast(evidence: Sequence[Evidence], setting: str) -> Contrast:
    """Contrast of a folder.

    Args:
        setting: "auto", the rule above; "off"; "on", the rule's measures whatever the folder;
            or the name of one measure.

    Raises:
        UserError: no such setting.
    """
    if setting not in ("auto", "on", "off", *MEASURES):
        raise UserError(f"--contrast {setting}: auto, on, off, {', '.join(MEASURES)}")
    measures: dict[int, tuple[str, ...]] = {}
    share: dict[int, dict[str, float]] = {}
    for index in sorted({item.index for item in evidence}):
        rows = [item.share for item in evidence if item.index == index]
        mean = {name: float(np.mean([row[name] for row in rows])) for name in MEASURES}
        best = max(mean.values())
        suited = tuple(name for name in MEASURES if best > 0 and mean[name] >= TIE * best)
        measures[index] = (setting,) if setting in MEASURES else suited
        share[index] = {name: round(value, 4) for name, value in mean.items()}
    pairs = [item.separation[measures[item.index]] for item in evidence if measures[item.index]]
    product, root = np.mean(pairs, axis=0).tolist() if pairs else (0.0, 0.0)
    # Equality is that of images without contrast: the map alone is the same there.
    used = setting not in ("auto", "off") or (setting == "auto" and product > root)
    return Contrast(measures, used and bool(pairs), (round(product, 4), round(root, 4)), share)


def contrast_scores(
    seed: NDArray[np.float32], image: NDArray[np.uint8], keys: Sequence[int], contrast: Contrast
) -> NDArray[np.float32]:
    """Maps times contrast, each over the threshold between its two groups of values.

    Args:
        seed: maps in [0, 1], (k, H, W).
        image: RGB, (H, W, 3).

    Returns:
        At least 0, above 1 where the class is likely, float32 (k, H, W).
    """
    needed = {name for index in keys for name in contrast.measures.get(int(index), ())}
    maps = {name: measure_contrast(image, seed, name) for name in sorted(needed)}
    scores = np.zeros_like(seed, dtype=np.float32)
    for target, cam, index in zip(scores, seed, keys):
        product = weigh(cam, [maps[name] for name in contrast.measures.get(int(index), ())])
        target[:] = product / max(split_values(product)[0], 1e-6)
    return scores
