"""The methods. A new one is a file here and a line in this table."""

import ast
from importlib import import_module
from pathlib import Path

STAGES = {
    "cue-foreground": ("method.cue", "ForegroundCue"),
    "cue-background": ("method.cue", "BackgroundCue"),
    "sec": ("method.sec", "SEC"),
    "dsrg": ("method.dsrg", "DSRG"),
    "dsrg-retrain": ("method.dsrg", "Retrain"),
    "rsepm": ("method.rsepm", "RecurSeed"),
    "deeplab": ("method.deeplab", "DeepLab"),
    "seam": ("method.seam", "SEAM"),
    "segmenter": ("method.locate", "Segmenter"),
    "resegment": ("method.locate", "Resegment"),
    "supervised": ("method.supervised", "Supervised"),
}
"""Stage name on the command line -> module and class."""


def stage_class(name: str):
    """Class of the stage of that name; loaded when asked for, so that --help stays quick."""
    module, attribute = STAGES[name]
    return getattr(import_module(module), attribute)


def summary(name: str) -> str:
    """First line of a stage's docstring, read without importing it: --help takes no seconds."""
    module, attribute = STAGES[name]
    source = Path(__file__).with_name(module.rpartition(".")[2] + ".py").read_text("utf-8")
    kinds = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    return ast.get_docstring(kinds[attribute]).partition("\n")[0]
