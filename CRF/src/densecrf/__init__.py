"""Fully connected CRFs (Kraehenbuehl and Koltun 2011): batched, threaded, easy to install."""

import sys

from ._core import release_memory
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
    "release_memory",
]
__version__ = "0.2.0"


def install_as_pydensecrf() -> None:
    """Makes `import pydensecrf.densecrf` and `pydensecrf.utils` import `densecrf.pydensecrf`.

    Call it in the first lines of the program, before pydensecrf is imported.

    Differs from pydensecrf:
        - Results are numpy arrays in C order, not Eigen matrices in Fortran order.
        - All processors are used unless `DenseCRF.threads` is set.
        - Tables of large lattices are float16 unless `DenseCRF.precision = "float32"` is set.
          Marginals then differ by 1e-5 on average after ten steps (README, "How exact").
        - Widths of 0 and compatibilities of the wrong size raise ValueError; there they crash the
          program or read beyond an array.
        - Where the number of pixels is no multiple of 4, pydensecrf adds lattice points that do
          not exist. This package does not; marginals differ at a few pixels by 1e-3.
        - Kernel parameters cannot be learned.
    """
    from . import pydensecrf

    sys.modules["pydensecrf"] = pydensecrf
    sys.modules["pydensecrf.densecrf"] = pydensecrf.densecrf
    sys.modules["pydensecrf.utils"] = pydensecrf.utils
