"""Stages, flags and their values complete in a shell."""

import shutil
import subprocess
import sys

import pytest
from program import execute

COMPLETE = """
source "$1"; shift
name=$(complete -p "$1" | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
"$name"; printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """Writes the completion script of a program, once."""
    folder = tmp_path_factory.mktemp("completion")

    def write(program: str):
        path = folder / f"{program}.bash"
        if not path.exists():
            execute([sys.executable, program, "--tyro-write-completion", "bash", str(path)])
        return path

    return write


@pytest.mark.parametrize(
    ("program", "words", "wanted"),
    [
        ("train.py", ("su",), {"supervised"}),
        ("train.py", ("sec", "--crf-s"), {"--crf-scale", "--crf-spread", "--crf-steps"}),
        ("train.py", ("sec", "--policy", "p"), {"poly"}),
        ("train.py", ("deeplab", "--backb"), {"--backbone"}),
        ("train.py", ("supervised", "--crf-"), set()),
        ("test.py", ("last.pt", "--mi"), {"--mirror"}),
        ("evaluate.py", ("--rep",), {"--report"}),
    ],
)
def test_words_complete_in_bash(program, words, wanted, script):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on this machine")
    command = [bash, "-c", COMPLETE, "bash", str(script(program)), program, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    # Where several fit, tyro lists the further lines of their help texts, too.
    lines = [line for line in done.stdout.splitlines() if line.startswith(words[-1])]
    assert len(lines) == len(wanted) and set(lines) == wanted, done.stdout + done.stderr
