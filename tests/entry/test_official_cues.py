"""SEC at its published size, from the cue file its authors released."""

import numpy as np
import pytest
from PIL import Image
from program import ROOT, run

from datalist.spec import VOC

CUES = ROOT.parent / "shared/data/localization_cues.pickle.gz"


@pytest.mark.skipif(not CUES.exists(), reason="the released cue file is not here")
def test_two_steps_at_full_size(tmp_path):
    """VGG16 at 321 x 321 on stand-in images of the right names; weights from scratch."""
    root = tmp_path / "stand-in"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    ids = ["2008_007028", "2009_000233"]
    rng = np.random.default_rng(0)
    for name in ids:
        pixels = rng.integers(0, 256, (375, 500, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"JPEGImages/{name}.jpg")
        tag = "<annotation><object><name>dog</name></object></annotation>"
        (root / f"Annotations/{name}.xml").write_text(tag)
    (root / "classes.txt").write_text("\n".join(VOC))
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(ids))
    flags = ("--recipe", "paper", "--weights", "none", "--dataset", root, "--cue", CUES)
    flags += ("--out", tmp_path / "out", "--steps", 2, "--batch", 2, "--log-every", 1, "--quiet")
    run("train.py", "sec", *flags)
    assert len((tmp_path / "out/log.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "out/last.pt").is_file()
