"""What a run leaves to look at: log.jsonl, TensorBoard events, recipe.json."""

import json
from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter

from base import IGNORE
from base.file import write_text
from datalist.palette import palette


class Log:
    """Scalars and pictures of a run, in its folder; what a killed run logged later is dropped."""

    def __init__(self, folder: Path, step: int):
        self.path = folder / "log.jsonl"
        kept = []
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    if json.loads(line)["step"] <= step:
                        kept.append(line)
                except (ValueError, KeyError, TypeError, RecursionError):
                    break  # a line cut off by a kill is the last one
        write_text(self.path, "".join(line + "\n" for line in kept))
        self.file = open(self.path, "a", buffering=1)  # noqa: SIM115
        self.board = SummaryWriter(str(folder), purge_step=step + 1)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Log named numbers of a step."""
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def panels(self, step: int, image: np.ndarray, maps: dict[str, np.ndarray]) -> None:
        """Log RGB images uint8, (N, H, W, 3), beside class maps (N, h, w), one row an image."""
        colour = palette(256)
        colour[IGNORE] = 224
        rows = []
        for index, picture in enumerate(image):
            height, width = picture.shape[:2]
            row = [picture]
            for label in maps.values():
                y = np.arange(height) * label.shape[1] // height
                x = np.arange(width) * label.shape[2] // width
                row.append(colour[label[index][y][:, x]])
            rows.append(np.concatenate(row, axis=1))
        title = "image | " + " | ".join(maps)
        self.board.add_image(title, np.concatenate(rows), step, dataformats="HWC")

    def close(self) -> None:
        """Write out what is buffered."""
        self.board.close()
        self.file.close()
