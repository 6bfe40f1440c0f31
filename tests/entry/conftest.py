"""The programs of this repository start in forks of one process, which imports once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SERVER = Path(__file__).with_name("server.py")


@pytest.fixture(scope="session", autouse=True)
def server(tmp_path_factory):
    """Makes `python` on the PATH a client of tests/entry/server.py."""
    folder = tmp_path_factory.mktemp("server")
    client = folder / "bin/python"
    client.parent.mkdir()
    client.write_text(f'#!/bin/sh\nexec "{sys.executable}" -SE "{SERVER}" "$@"\n')
    client.chmod(0o755)
    command = [sys.executable, str(SERVER), str(folder / "socket")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    before = dict(os.environ)
    os.environ |= {
        "PATH": f"{client.parent}:{Path(sys.executable).parent}:{before['PATH']}",
        "SEEDSEG_SERVER": str(folder / "socket"),
    }
    yield
    os.environ.clear()
    os.environ.update(before)
    process.kill()
    process.wait()
