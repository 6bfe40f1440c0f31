"""The interface of pydensecrf on this package's engine; see `densecrf.install_as_pydensecrf`."""

from . import densecrf, utils

__all__ = ["densecrf", "utils"]
