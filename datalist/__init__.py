"""Data sets as values: where images, tags, masks and cues lie, and how they are read."""
