"""SEC at its published size, from the cue file its authors released."""

import numpy as np
import pytest
from made import layout
from PIL import Image
from program import ROOT, run

from datalist.spec import VOC

CUES = ROOT.parent / "shared/data/localization_cues.pickle.gz"


@pytest.mark.skipif(not CUES.exists(), reason="the released cue file is not here")
def test_two_steps_at_full_size(tmp_path):
    """VGG16 at 321 x 321 on stand-in images of the right names; weights from scratch."""
    dog = (VOC.index("dog"),)
    root = layout(tmp_path / "stand-in", VOC, {"2008_007028": dog, "2009_000233": dog})
    rng = np.random.default_rng(0)
    for name in ("2008_007028", "2009_000233"):
        pixels = rng.integers(0, 256, (375, 500, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"JPEGImages/{name}.jpg")
    flags = ("--recipe", "paper", "--weights", "none", "--dataset", root, "--cue", CUES)
    flags += ("--out", tmp_path / "out", "--steps", 2, "--batch", 2, "--log-every", 1, "--quiet")
    run("train.py", "sec", *flags)
    assert len((tmp_path / "out/log.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "out/last.pt").is_file()
