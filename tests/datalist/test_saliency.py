"""Background cues from saliency maps."""

import cv2
import numpy as np
import pytest

from base import UserError
from datalist.cue import CueFile
from datalist.saliency import background_cue, main, read_saliency


@pytest.fixture
def like(tmp_path):
    """A cue file of two images, three classes, 4 x 6 cells."""
    path = tmp_path / "like.npz"
    CueFile.collect({name: np.zeros((3, 4, 6), bool) for name in ("one", "two")}).write(path)
    return path


def test_cells_below_the_threshold_are_background():
    saliency = np.full((40, 60), 0.03125, np.float32)
    saliency[:10, :10] = 1  # exactly the first cell
    cue = background_cue(saliency, (4, 6), 0.06)
    assert not cue[0, 0] and cue.sum() == 23
    assert not background_cue(saliency, (4, 6), threshold=0.03125).any()


def test_maps_of_either_kind_become_cues(tmp_path, like):
    folder = tmp_path / "maps"
    folder.mkdir()
    grey = np.full((20, 30), 255, np.uint8)
    grey[10:] = 0
    cv2.imwrite(str(folder / "one.png"), grey)
    np.save(folder / "two.npy", np.zeros((3, 2)))
    main(like, folder, tmp_path / "out.npz")
    cues = CueFile.open(tmp_path / "out.npz")
    assert cues.ids == ("one", "two") and cues.num_classes == 3
    assert cues["one"][0].tolist() == [[False] * 6] * 2 + [[True] * 6] * 2
    assert cues["two"][0].all() and not cues["two"][1:].any()


@pytest.mark.parametrize(
    "array", [np.zeros((2, 2, 3)), np.full((2, 2), 2.0), np.full((2, 2), np.nan), np.array("x")]
)
def test_other_arrays_are_refused(tmp_path, array):
    np.save(tmp_path / "map.npy", array)
    with pytest.raises(UserError, match=r"map\.npy"):
        read_saliency(tmp_path / "map.npy")


def test_damaged_and_missing_maps_are_named(tmp_path, like):
    (tmp_path / "one.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match=r"one\.npy"):
        main(like, tmp_path, tmp_path / "out.npz")
    np.save(tmp_path / "one.npy", np.zeros((4, 4)))
    with pytest.raises(UserError, match="'two'"):
        main(like, tmp_path, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()
