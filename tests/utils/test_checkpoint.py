"""Checkpoints: whole or not there, refused by name, nothing run on reading."""

import errno
import os
import pickle
import resource
import signal
import zipfile
from pathlib import Path

import pytest
import torch

from base import UserError
from utils import checkpoint

CONTENT = {"stage": "tiny", "recipe": {}, "classes": ["background"], "network": {}, "step": 1}


def saved(folder: Path, step: int = 1, size: int = 100) -> Path:
    path = folder / "last.pt"
    network = {"weight": torch.full((size,), float(step))}
    checkpoint.save(path, {**CONTENT, "network": network, "step": step})
    return path


def test_the_one_before_is_kept(tmp_path):
    path = saved(tmp_path, 1)
    saved(tmp_path, 2)
    assert checkpoint.load(path)["step"] == 2
    assert checkpoint.load(tmp_path / "previous.pt")["step"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.pt", "previous.pt"]


def test_newest_falls_back_to_the_one_before(tmp_path):
    assert checkpoint.newest(tmp_path) is None
    path = saved(tmp_path, 1)
    assert checkpoint.newest(tmp_path) == path
    path.rename(tmp_path / "previous.pt")  # killed between the two renames
    assert checkpoint.newest(tmp_path) == tmp_path / "previous.pt"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_torn_checkpoint_is_named(tmp_path, share):
    saved(tmp_path, 1)
    path = saved(tmp_path, 2)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"last\.pt: damaged.*previous\.pt"):
        checkpoint.load(path)


def test_changed_byte_is_noticed(tmp_path):
    path = saved(tmp_path, size=4000)
    data = bytearray(path.read_bytes())
    place = data.find(torch.ones(50).numpy().tobytes())
    data[place + 100] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load(path)


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "last.pt"
    with pytest.raises(UserError, match="no such checkpoint"):
        checkpoint.load(path)
    for content, refusal in (
        ({"weight": torch.ones(2)}, r"not a checkpoint of train\.py"),
        ({"format": checkpoint.FORMAT, "stage": "sec"}, "lacks recipe, classes, network, step"),
    ):
        torch.save(content, path)
        with pytest.raises(UserError, match=refusal):
            checkpoint.load(path)


@pytest.mark.parametrize(
    ("part", "value"),
    [("stage", 1), ("recipe", []), ("classes", "ab"), ("classes", [1]), ("network", {"a": 1})],
)
def test_parts_of_other_types_are_named(tmp_path, part, value):
    path = tmp_path / "last.pt"
    checkpoint.save(path, {**CONTENT, part: value})
    with pytest.raises(UserError, match=rf"last\.pt: the checkpoint's part '{part}' is damaged"):
        checkpoint.load(path)


def test_compressed_checkpoint_is_refused(tmp_path):
    path = saved(tmp_path, size=100_000)
    with zipfile.ZipFile(path) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as small:
        for name, data in parts.items():
            small.writestr(name, data)
    with pytest.raises(UserError, match=r"last\.pt: damaged"):
        checkpoint.load(path)


def test_nothing_in_a_checkpoint_is_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = tmp_path / "last.pt"
    for write in (lambda: torch.save(Trap(), path), lambda: path.write_bytes(pickle.dumps(Trap()))):
        write()
        with pytest.raises(UserError, match="damaged, or not a checkpoint"):
            checkpoint.load(path)
    assert not (tmp_path / "sprung").exists()


def test_full_disk_keeps_the_last_good_one(tmp_path):
    path = saved(tmp_path, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"last\.pt: the checkpoint could not be written"):
            saved(tmp_path, 2, size=100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert checkpoint.load(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_no_space_says_so(tmp_path, monkeypatch):
    path = saved(tmp_path, 1)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        saved(tmp_path, 2)
    assert checkpoint.load(path)["step"] == 1


def test_sweep_removes_drafts_alone(tmp_path):
    path = saved(tmp_path)
    (tmp_path / ".last.pt-abc").write_bytes(b"half")
    checkpoint.sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
