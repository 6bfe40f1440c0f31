"""Masks from seeds: a background score, then the dense CRF.

Seeds are activation maps or scores of the tagged classes, each over its maximum. The masks teach a
segmentation network (`deeplab`), sure ones a boundary network (`affinity`) or SEC and DSRG.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

import densecrf
from base import IGNORE, UserError
from base.recipe import scale_of_widths
from method.contrast import Contrast, contrast_scores
from refine import irn_labels, refine_labels, refine_scores
from refine.contrast import SPREAD, stretch_colours


@dataclass(frozen=True)
class PseudoRecipe:
    """RecurSeed's masks (convert_seed_to_pseudo_masks.py of the released code)."""

    gamma: tuple[float, ...] = (2.0,)
    """The background scores (1 - the best class)^gamma. With two exponents, pixels to which they
    give different classes are ignored (ours)."""
    threshold: tuple[float, ...] = ()
    """Constant background scores instead. Two give IRN's sure labels, where a pixel is ignored that
    the first calls background and the second does not; their CRF runs on labels."""
    crf: str = "deeplab"
    """Preset of the CRF, widths in pixels; empty: none. Not used for IRN's sure labels."""
    crf_scale: float | None = 1.0
    """Divides the CRF's widths; None: the image's longer side counts as 500 pixels, as in VOC."""

    # -- ours: not in the publication ------------------------------------------------------------
    background_factor: tuple[float, ...] = ()
    """Factors to the background score that the seeds came with, instead (ours). With two, pixels
    to which they give different classes are ignored."""
    crf_spread: float | None = None
    """Images whose colours deviate by fewer grey levels are stretched to it for the CRF, unless
    contrast is used, whose CRF has a colour width of its own (ours); None: as they are."""
    contrast: str = "off"
    """Maps are multiplied by contrast with the surroundings (ours): auto, where the folder's own
    maps and images say that it helps (method/contrast.py); on; off; or one measure of it: median,
    local, mahalanobis."""
    contrast_level: tuple[float, ...] = (1.0, 0.5)
    """With contrast: background scores, relative to the threshold between the two groups of a map's
    values. With two, pixels to which they give different classes are ignored."""
    contrast_crf: tuple[float, float, float] = (40.0, 8.0, 5.0)
    """With contrast: width in pixels, width in colour steps and weight of the CRF's bilateral
    kernel, as thin things need a smaller one. Chosen on training masks of steel-defects and of two
    further sets (docs/methods.md)."""


PAPER: dict[str, PseudoRecipe] = {
    "masks": PseudoRecipe(),
    "sure": PseudoRecipe(threshold=(0.30, 0.05)),
    "walked": PseudoRecipe(threshold=(0.25,)),
    "scored": PseudoRecipe(background_factor=(1.0,)),
}
"""sure and walked: jiwoon-ahn/irn, step/cam_to_ir_label.py and step/make_sem_seg_labels.py."""

PHOTO = PseudoRecipe(crf="sec-test", crf_scale=None, crf_spread=SPREAD)
RECIPES: dict[str, dict[str, PseudoRecipe]] = {
    "paper": PAPER,
    # The small recipes learn small images: the CRF's widths shrink with them.
    "small": {
        "masks": replace(PAPER["masks"], crf_scale=4.0),
        "sure": replace(PAPER["sure"], crf_scale=4.0),
        # On training masks of `scenes`, 0.40 is 2.7 points better than 0.25 after the walk.
        "walked": replace(PAPER["walked"], threshold=(0.40,), crf_scale=4.0),
        "scored": replace(PAPER["scored"], crf_scale=4.0),
    },
    "photo": {
        "masks": PHOTO,
        "sure": replace(PHOTO, gamma=(2.0, 12.0), contrast="auto"),
        "walked": replace(PAPER["walked"], crf_scale=None),
        # Chosen on training masks of msrc-objects and camvid-objects.
        "scored": PseudoRecipe(background_factor=(0.4, 1.0), crf_scale=None, contrast="auto"),
    },
}
RECIPES["smoke"] = RECIPES["small"]


def mask_of(
    seed: NDArray[np.float32],
    image: NDArray[np.uint8],
    recipe: PseudoRecipe,
    background: NDArray[np.float32] | None = None,
    keys: Sequence[int] = (),
    contrast: Contrast | None = None,
    shrink: Mapping[int, float] | None = None,
) -> NDArray:
    """Mask of one image.

    Args:
        seed: in [0, 1], (k, H, W), one map for each class of the image.
        image: RGB, (H, W, 3).
        background: the seeds' own, in [0, 1], (H, W); needed for `background_factor`.
        keys: class of each map; needed for `contrast` and `shrink`.
        contrast: of the folder; None: not used.
        shrink: factors of the maps of some classes against the first of two background scores.

    Returns:
        0 for background, 1 + index of the map, 255 where unsure; int64 (H, W).

    Raises:
        UserError: for more than two background scores, and for none of the seeds' own.
    """
    factors = recipe.background_factor
    if max(map(len, (recipe.threshold, recipe.gamma, factors))) > 2:
        raise UserError("--threshold, --gamma and --background-factor take one number, or two")
    factor = np.array([(shrink or {}).get(k, 1) for k in keys], np.float32)[:, None, None]
    if contrast and contrast.used:
        score = contrast_scores(seed, image, keys, contrast)
        return contrast_mask((score * factor, score), image, recipe)
    if recipe.crf_spread:
        image = stretch_colours(torch.from_numpy(image)[None], recipe.crf_spread)[0].numpy()
    maps = (seed * factor if shrink else seed, seed)
    best = [x.max(0, initial=0) for x in maps]
    if recipe.threshold:
        backgrounds = [np.full_like(x, t) for x, t in zip(best, recipe.threshold)]
    elif factors:
        if background is None:
            raise UserError("--background-factor needs seeds that have a background score")
        backgrounds = [x * background for x in factors]
    else:
        backgrounds = [(1 - x) ** gamma for x, gamma in zip(best, recipe.gamma)]
    scores = [np.concatenate([x[None], cam]) for x, cam in zip(backgrounds, maps)]
    scale = scale_of_widths(recipe.crf_scale, seed.shape[1:])
    if len(recipe.threshold) == 2:
        labels = [score.argmax(0) for score in scores]
        if recipe.crf:
            labels = [refine_labels(x, image, len(seed) + 1, scale=scale) for x in labels]
        return irn_labels(*labels)
    if recipe.crf and len(seed):
        preset = densecrf.preset(recipe.crf, scale=scale)
        scores = [refine_scores(score, image, preset) for score in scores]
    labels = [score.argmax(0) for score in scores]
    return np.where(labels[0] == labels[-1], labels[0], IGNORE)


def contrast_mask(
    maps: tuple[NDArray[np.float32], NDArray[np.float32]],
    image: NDArray[np.uint8],
    recipe: PseudoRecipe,
) -> NDArray:
    """Mask of maps times contrast, at least 0, (k, H, W), one for each background score."""
    if len(recipe.contrast_level) not in (1, 2):
        raise UserError("--contrast-level takes one number, or two")
    scale = scale_of_widths(recipe.crf_scale, image.shape[:2])
    width, colour, weight = recipe.contrast_crf
    kernels = (densecrf.Gaussian(3 / scale, 3), densecrf.Bilateral(width / scale, colour, weight))
    labels = []
    for level, score in zip(recipe.contrast_level, maps):
        background = np.full((1, *score.shape[1:]), level, np.float32)
        # The square is as steep as the CRF expects of probabilities (ours).
        both = np.concatenate([background, score]) ** 2
        if recipe.crf and len(score):
            both = refine_scores(both / both.sum(0), image, densecrf.Preset(kernels, 10))
        labels.append(both.argmax(0))
    return np.where(labels[0] == labels[-1], labels[0], IGNORE)


def sure_level(recipe: PseudoRecipe, contrast: Contrast | None = None) -> float:
    """Value of a map, or of map x contrast, from which on a pixel is of its class without CRF."""
    if contrast and contrast.used:
        return recipe.contrast_level[0]
    if recipe.threshold:
        return recipe.threshold[0]
    value = np.linspace(0, 1, 10001)
    return float(value[np.argmax(value >= (1 - value) ** recipe.gamma[0])])


def shrink_factors(tails: Mapping[int, Sequence[float]], level: float) -> dict[int, float]:
    """Factors that leave a class no more sure pixels, in the median image, than its size (ours).

    Args:
        tails: class -> of each of its maps, the value that pixels exceed whose share is the largest
            that goes with the class's size.

    Returns:
        Factors below 1, of classes that have too many.
    """
    medians = {index: float(np.median(values)) for index, values in tails.items()}
    return {index: level / value for index, value in medians.items() if value > level}
