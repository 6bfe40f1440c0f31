"""Data sets as values: where images, tags, masks and cues lie, and how they are read."""


class DataError(ValueError):
    """Something in the data is wrong; the message is one sentence that says what and where."""
