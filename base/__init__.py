"""What every layer may import: the error that users see, the ignore value, a few tensor functions.

Nothing here knows a data set, a network or a method.
"""

from base.error import UserError, entry

IGNORE = 255
"""Value of mask pixels that belong to no class, as in VOC."""

WORK_PIXELS = 2_000_000
"""Images of more pixels are shrunk to this size before networks and CRF."""
