"""Fully connected CRFs (Kraehenbuehl and Koltun 2011): batched, threaded, easy to install."""

from .batch import mean_field
from .kernel import PRESETS, Bilateral, Features, Gaussian, Preset, preset

__all__ = ["PRESETS", "Bilateral", "Features", "Gaussian", "Preset", "mean_field", "preset"]
__version__ = "0.1.0"
