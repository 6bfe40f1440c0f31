"""Programs of this repository as a user starts them."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def execute(command, code=0, **environment):
    """Run a command from the repository's folder, on one thread; it must exit with `code`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def run(script, *arguments, code=0, python="python"):
    """Run an entry script; a refusal must be one sentence without a traceback.

    In tests/entry `python` is the client of `script/warm.py`; give sys.executable elsewhere, and
    for a program that starts processes.
    """
    done = execute([python, *script.split(), *map(str, arguments)], code)
    if code:
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    return done


def chain(name, out, **environment):
    """What script/NAME.sh prints, run to its end at smoke size."""
    environment = {"TRAIN": "--recipe smoke --quiet"} | environment | {"OUT": str(out)}
    return execute(["bash", f"script/{name}.sh"], **environment).stdout
