"""The programs of this repository start in forks of one process, which imports once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

WARM = Path(__file__).resolve().parents[2] / "script/warm.py"
MODULES = ("torch", "torch._dynamo", "timm", "tensorboardX", "tyro")  # optimizers import _dynamo


@pytest.fixture(scope="session", autouse=True)
def server(tmp_path_factory):
    """Makes `python` on the PATH a client of script/warm.py."""
    folder = tmp_path_factory.mktemp("server")
    client, socket = folder / "bin/python", folder / "socket"
    client.parent.mkdir()
    client.write_text(
        f'#!/bin/sh\nif [ "$1" = -SE ]; then exec "{sys.executable}" "$@"; fi\n'  # is a client
        f'exec "{sys.executable}" -SE "{WARM}" run "{socket}" "$@"\n'
    )
    client.chmod(0o755)
    command = [sys.executable, str(WARM), "serve", str(socket), *MODULES]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env=one_thread)
    while not socket.exists():
        assert process.poll() is None
    before = dict(os.environ)
    os.environ["PATH"] = f"{client.parent}:{Path(sys.executable).parent}:{before['PATH']}"
    yield
    os.environ.clear()
    os.environ.update(before)
    process.stdin.close()
    process.wait()
