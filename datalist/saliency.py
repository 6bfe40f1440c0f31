"""Background cues from saliency maps: what is not salient is background.

`python -m datalist.saliency FOLDER OUT --like CUES` writes a cue file with background cells alone;
`python -m datalist.cue merge` joins it with foreground cues.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from base import UserError, entry
from datalist.archive import read_npy
from datalist.cue import CueFile
from datalist.image import read_mask


def read_saliency(path: Path) -> np.ndarray:
    """Read a saliency map.

    Args:
        path: grey PNG, 255 is 1; or .npy of numbers in [0, 1].

    Returns:
        float32 (H, W) in [0, 1].

    Errors: UserError where the file is unreadable or of other values.
    """
    if path.suffix == ".png":
        return read_mask(path).astype(np.float32) / 255
    saliency = read_npy(path, "fiub", 2)
    if not saliency.size or not (saliency.min() >= 0 and saliency.max() <= 1):
        raise UserError(f"{path}: saliency is a number from 0 to 1, here it is something else.")
    return saliency.astype(np.float32)


def background_cue(
    saliency: np.ndarray, grid: tuple[int, int], threshold: float = 0.06
) -> np.ndarray:
    """Cells of low saliency.

    Args:
        saliency: in [0, 1], (H, W); averaged over the area of each cell.
        grid: (height, width) in cells.
        threshold: cells below this are background.

    Returns:
        bool (height, width).

    Source: Huang et al., CVPR 2018 (DSRG), threshold 0.06 on DRFI maps; how the maps were brought
    to the grid is not published.
    """
    shrinks = saliency.shape[0] >= grid[0] and saliency.shape[1] >= grid[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(saliency, grid[::-1], interpolation=interpolation) < threshold


def collect(folder: Path, like: CueFile, threshold: float = 0.06) -> CueFile:
    """Background cues of the images of a cue file, on its grid and for its classes.

    Args:
        folder: maps ID.png or ID.npy, one for every image of `like`.
        like: cue file that gives ids, grid and number of classes.
        threshold: as in `background_cue`.

    Errors: UserError for a missing or unreadable map.
    """

    def pairs():
        for name in like.ids:
            path = next((p for s in (".png", ".npy") if (p := folder / (name + s)).is_file()), None)
            if path is None:
                raise UserError(f"{folder} has no saliency map of '{name}' ({name}.png or .npy).")
            cue = np.zeros((like.num_classes, *like.grid), bool)
            cue[0] = background_cue(read_saliency(path), like.grid, threshold)
            yield name, cue

    return CueFile.collect(pairs(), str(folder))


def main(arguments: list[str] | None = None) -> None:
    """Make background cues from a folder of saliency maps."""
    parser = argparse.ArgumentParser(prog="python -m datalist.saliency", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="maps ID.png (grey) or ID.npy (0 to 1)")
    parser.add_argument("out", type=Path, help="cue file to write (.npz)")
    parser.add_argument(
        "--like", type=Path, required=True, help="cue file that gives ids, grid and classes"
    )
    parser.add_argument(
        "--threshold", type=float, default=0.06, help="cells below this are background"
    )
    flags = parser.parse_args(arguments)
    with entry():
        cues = collect(flags.folder, CueFile.open(flags.like), flags.threshold)
        cues.write(flags.out)
    share = np.mean([cue[0].mean() for _, cue in cues.items()])
    print(f"{flags.out}: {len(cues)} images, background cues cover {100 * share:.1f} % of the grid")


if __name__ == "__main__":
    main()
