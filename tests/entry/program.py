"""Programs of this repository as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(script, *arguments, code=0):
    """Run an entry script; a refusal must be one sentence without a traceback."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *script.split(), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    if code:
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    return done
