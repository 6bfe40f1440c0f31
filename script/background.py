"""Replace the background cues of a cue file by those of saliency maps.

    python -m script.background CUES SALIENCY OUT

Background cues are the cells where the saliency is low; a cell of several classes goes to the
smaller region, as in `python -m datalist.cue merge`.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from base import entry
from datalist.cue import CueFile, merge_files
from datalist.saliency import collect


@dataclass(frozen=True)
class Flags:
    cues: tyro.conf.Positional[Path]
    """Cue file (.npz, or the official pickle), or folder of cues."""
    saliency: tyro.conf.Positional[Path]
    """Folder of maps, ID.png (grey) or ID.npy (0 to 1)."""
    out: tyro.conf.Positional[Path]
    """Cue file to write (.npz)."""
    threshold: float = 0.06
    """Cells whose saliency is below this are background (DSRG)."""


def foreground(cues: CueFile) -> CueFile:
    """The same cues without those of the background."""

    def pairs():
        for name, cue in cues.items():
            cue = cue.copy()
            cue[0] = False
            yield name, cue

    return CueFile.collect(pairs(), cues.source)


def main(flags: Flags) -> None:
    cues = CueFile.open(flags.cues)
    background = collect(flags.saliency, cues, flags.threshold)
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    merge_files(foreground(cues), background).write(flags.out)
    print(flags.out)


if __name__ == "__main__":
    with entry():
        main(tyro.cli(Flags, description=__doc__))
