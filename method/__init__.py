"""The methods. A new one is a file here and a line in this table."""

from dataclasses import replace
from importlib import import_module
from math import sqrt
from typing import Any

from base import UserError

STAGES = {
    "cam": ("cam", "CAM", "Class activation maps of a classifier without hidden layers."),
    "cue-foreground": ("cue", "ForegroundCue", "Cues of tagged classes, from activation maps."),
    "cue-background": ("cue", "BackgroundCue", "Cues of the background, from gradient saliency."),
    "sec": ("sec", "SEC", "DeepLab-LargeFOV under the three losses."),
    "dsrg": ("dsrg", "DSRG", "Step 1: a four-branch DeepLab under seeds that grow."),
    "dsrg-retrain": ("segment", "Retrain", "Step 2: cross entropy on the masks of step 1."),
    "rsepm": ("rsepm", "RecurSeed", "Single stage: maps that teach themselves and a decoder."),
    "affinity": ("affinity", "Affinity", "Boundaries from labels in which unsure pixels are 255."),
    "deeplab": ("segment", "DeepLab", "Cross entropy on masks at their full size."),
    "seam": ("seam", "SEAM", "Class activation maps of two views that agree, from tags."),
    "segmenter": ("locate", "Segmenter", "A class-agnostic network that turns maps into masks."),
    "resegment": ("locate", "Resegment", "Masks of tags: maps that an external network segments."),
    "supervised": ("segment", "Supervised", "Cross entropy on true masks at the logits' size."),
}
"""Stage name on the command line -> module, class, and what it does in one line."""


def stage_class(name: str) -> Any:
    """Class of the stage of that name, imported when asked for, so that --help is quick."""
    if name not in STAGES:
        raise UserError(f"'{name}' is not a stage; stages are {', '.join(STAGES)}")
    module, attribute, _ = STAGES[name]
    return getattr(import_module(f"method.{module}"), attribute)


def summary(name: str) -> str:
    """What a stage does, in one line, without importing it: --help takes no seconds."""
    return STAGES[name][2]


def build_stage(name: str, recipe: Any, spec: Any) -> Any:
    """A stage, its input size taken from the data set where the recipe leaves it open."""
    if recipe.data.size is None:
        recipe = replace(recipe, data=replace(recipe.data, size=usual_size(recipe.data, spec)))
    return stage_class(name)(recipe, spec)


def usual_size(data: Any, spec: Any, most: int = 500) -> tuple[int, int]:
    """Height and width of `data.area` pixels in the median shape of the first training images.

    Both are multiples of 16, at least 32, as strided networks like them.
    """
    from datalist.image import median_size

    height, width = median_size(map(spec.image_path, spec.ids(data.split)[:most]))
    factor = sqrt(data.area / (height * width))
    return max(32, 16 * round(height * factor / 16)), max(32, 16 * round(width * factor / 16))
