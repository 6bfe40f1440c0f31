"""The methods. A new one is a file here and a line in this table."""

from importlib import import_module

STAGES = {
    "cue-foreground": ("method.cue", "ForegroundCue"),
    "cue-background": ("method.cue", "BackgroundCue"),
    "sec": ("method.sec", "SEC"),
    "dsrg": ("method.dsrg", "DSRG"),
    "dsrg-retrain": ("method.dsrg", "Retrain"),
    "rsepm": ("method.rsepm", "RecurSeed"),
    "affinity": ("method.affinity", "Affinity"),
    "deeplab": ("method.deeplab", "DeepLab"),
    "supervised": ("method.supervised", "Supervised"),
}
"""Stage name on the command line -> module and class."""


def stage_class(name: str):
    """Class of the stage of that name; loaded when asked for, so that --help stays quick."""
    module, attribute = STAGES[name]
    return getattr(import_module(module), attribute)
