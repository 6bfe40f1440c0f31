"""How programs end: one line for what a user can mend, a traceback for a bug."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from base import UserError, entry

ROOT = Path(__file__).resolve().parents[2]


def ended(body: str) -> subprocess.CompletedProcess:
    """Run a program's body inside `entry`."""
    program = f"from base import UserError, entry\nwith entry():\n    {body}\nprint('after')"
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_user_errors_are_one_line():
    done = ended("raise UserError('a.txt: is empty: give another')")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "error: a.txt: is empty: give another\n"
    assert not issubclass(UserError, ValueError)


@pytest.mark.parametrize("error", ["ValueError('odd')", "RuntimeError('odd')", "KeyError('odd')"])
def test_bugs_keep_their_traceback(error):
    done = ended(f"raise {error}")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.splitlines()[-1].startswith(error.partition("(")[0] + ": ")


def test_refusals_of_the_system_name_the_file(tmp_path):
    path = tmp_path / "none" / "a.txt"
    done = ended(f"open({str(path)!r})")
    assert done.returncode == 1
    assert done.stderr == f"error: {path}: No such file or directory\n"
    full = ended("raise OSError(28, 'No space left on device')")
    assert full.returncode == 1 and full.stderr == "error: No space left on device\n"


def test_other_system_errors_are_bugs():
    done = ended("raise OSError('odd')")
    assert done.returncode == 1 and done.stderr.startswith("Traceback")


def test_ctrl_c_ends_with_130():
    done = ended("import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)")
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr == "interrupted; run the same command to continue\n"


def test_a_body_without_an_error_goes_on():
    with entry():
        pass
    assert ended("pass").stdout == "after\n"
