"""Colours of classes."""

import numpy as np


def palette(count: int) -> np.ndarray:
    """Colours of the VOC colour map, RGB of the first `count` class indices, uint8 (count, 3).

    Source: the PASCAL VOC development kit: bit j of red, green and blue, from the highest down,
    is bit 3j, 3j + 1 and 3j + 2 of the index.
    """
    if not 1 <= count <= 256:
        raise ValueError(f"a palette holds 1 to 256 colours, not {count}")
    index = np.arange(count)[:, None]
    channel = np.arange(3)[None]
    bits = [((index >> (3 * j + channel)) & 1) << (7 - j) for j in range(8)]
    return np.sum(bits, axis=0).astype(np.uint8)
