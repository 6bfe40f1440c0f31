"""Background cues from saliency maps: what is not salient is background.

    python -m datalist.saliency CUES SALIENCY OUT

The new background cues replace those of CUES; a cell of several classes goes to the smaller
region, as in `python -m datalist.cue merge`.
"""

from pathlib import Path

import cv2
import numpy as np
import tyro
from tyro.conf import Positional

from base import UserError, entry
from datalist.archive import read_npy
from datalist.cell import resolve_conflicts
from datalist.cue import CueFile
from datalist.image import read_mask


def read_saliency(path: Path) -> np.ndarray:
    """Read a saliency map, a grey PNG, where 255 is 1, or .npy: float32 (H, W) in [0, 1]."""
    if path.suffix == ".png":
        return read_mask(path).astype(np.float32) / 255
    saliency = read_npy(path, "fiub", 2)
    if not saliency.size or not (saliency.min() >= 0 and saliency.max() <= 1):
        raise UserError(f"{path}: saliency is a number from 0 to 1, here it is something else")
    return saliency.astype(np.float32)


def background_cue(saliency: np.ndarray, grid: tuple[int, int], threshold: float) -> np.ndarray:
    """Cells whose mean saliency, in [0, 1] (H, W), is low: bool (height, width) of `grid`.

    Source: Huang et al., CVPR 2018 (DSRG), threshold 0.06 on DRFI maps; how the maps were brought
    to the grid is not published.
    """
    shrinks = saliency.shape[0] >= grid[0] and saliency.shape[1] >= grid[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(saliency, grid[::-1], interpolation=interpolation) < threshold


def with_background(cues: CueFile, folder: Path, threshold: float) -> CueFile:
    """Cues whose background is that of saliency maps, ID.png or ID.npy, one for every image.

    Raises:
        UserError: a missing or unreadable map.
    """

    def pairs():
        for name in sorted(cues.ids):
            path = next((p for s in (".png", ".npy") if (p := folder / (name + s)).is_file()), None)
            if path is None:
                raise UserError(f"{folder} has no saliency map of '{name}' ({name}.png or .npy)")
            cue = cues[name]
            cue[0] = background_cue(read_saliency(path), cues.grid, threshold)
            yield name, resolve_conflicts(cue)

    return CueFile.collect(pairs())


def main(
    cues: Positional[Path],
    saliency: Positional[Path],
    out: Positional[Path],
    threshold: float = 0.06,
) -> None:
    """Background cues from saliency maps: what is not salient is background.

    Args:
        cues: Cue file (.npz, or the official pickle), or folder of cues.
        saliency: Folder of maps, ID.png (grey) or ID.npy (0 to 1).
        out: Cue file to write (.npz).
        threshold: Cells whose saliency is below this are background (DSRG).
    """
    with_background(CueFile.open(cues), saliency, threshold).write(out)
    print(out)


if __name__ == "__main__":
    with entry():
        tyro.cli(main, description=__doc__)
