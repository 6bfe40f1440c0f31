"""Fully connected CRFs (Kraehenbuehl and Koltun 2011): batched, threaded, easy to install."""

import sys

from .batch import mean_field
from .kernel import PRESETS, Bilateral, Features, Gaussian, Preset, preset

__all__ = [
    "PRESETS",
    "Bilateral",
    "Features",
    "Gaussian",
    "Preset",
    "install_as_pydensecrf",
    "mean_field",
    "preset",
]
__version__ = "0.1.0"


def install_as_pydensecrf() -> None:
    """Makes `import pydensecrf.densecrf` and `pydensecrf.utils` mean `densecrf.pydensecrf`.

    Call it before the import that it is for, in the program's first lines.
    """
    from . import pydensecrf

    sys.modules["pydensecrf"] = pydensecrf
    sys.modules["pydensecrf.densecrf"] = pydensecrf.densecrf
    sys.modules["pydensecrf.utils"] = pydensecrf.utils
