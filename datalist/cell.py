"""Operations on a cue, bool (C, h, w): resolve conflicts, resize."""

import numpy as np


def resolve_conflicts(cue: np.ndarray) -> np.ndarray:
    """Give each cell that several classes claim to the class with the smaller region.

    Sizes are those before any conflict is resolved. Of regions of one size the lower class index
    wins, and any class wins against background. Cues are bool (C, h, w).

    Source: Kolesnikov and Lampert, ECCV 2016, on localization cues.
    """
    classes, height, width = cue.shape
    area = cue.reshape(classes, -1).sum(axis=1)
    order = np.lexsort((np.arange(classes), np.arange(classes) == 0, area))
    free = np.ones((height, width), bool)
    resolved = np.zeros_like(cue)
    for index in order:
        resolved[index] = cue[index] & free
        free &= ~cue[index]
    return resolved


def resize(cue: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Resize a cue, bool (C, h, w), to a grid (height, width) of cells.

    Each new cell copies the cell that its centre lies in.
    """
    _, height, width = cue.shape
    row = (2 * np.arange(grid[0]) + 1) * height // (2 * grid[0])
    column = (2 * np.arange(grid[1]) + 1) * width // (2 * grid[1])
    return cue[:, row[:, None], column]
