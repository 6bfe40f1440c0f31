"""Flags of a recipe: grouped, with the texts of the class bodies, and completed in a shell."""

import dataclasses
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from utils import flags

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class DataRecipe:
    """What is learned from.

    More on it."""

    size: tuple[int, int] = (3, 4)
    """Height and width,
    pixels."""
    mirror: bool = False
    """Flip half."""


@dataclass(frozen=True)
class NetRecipe(DataRecipe):
    """The network."""

    kind: Literal["a", "b"] = "a"
    """Which."""
    mirror: bool = True
    """Flip half, with the cues."""


@dataclass(frozen=True)
class Run:
    """How to run."""

    out: str
    """Folder."""
    quiet: bool = False
    """No bar."""


def parse(*words):
    recipe = NetRecipe(size=(5, 6))
    return flags.parse(recipe, "small", ["paper", "small"], Run, "train.py net", "Text.", words)


def test_groups_follow_the_class_that_declares_first():
    found = flags.groups(NetRecipe())
    assert {title: [f.name for f in dataclasses.fields(k)] for title, k in found.items()} == {
        "data": ["size", "mirror"],
        "net": ["kind"],
    }
    assert flags.field_texts(DataRecipe)["size"] == "Height and width, pixels."


def test_flags_change_single_values():
    assert parse("--out", "x").recipe == NetRecipe(size=(5, 6))
    found = parse("--no-mirror", "--size", "7", "8", "--kind", "b", "--out", "x", "--quiet")
    assert found.recipe == NetRecipe(size=(7, 8), mirror=False, kind="b")
    assert found.run == Run("x", quiet=True)


@pytest.mark.parametrize("words", [("--odd", "1"), ("--kind", "c"), ("--recipe", "huge"), ()])
def test_what_is_no_flag_is_refused(words, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(*words)
    assert stop.value.code == 2 and words[:1] <= tuple(capsys.readouterr().err.split())


def test_help_has_a_box_for_each_group_and_the_last_text(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for part in ("data options", "net options", "run options", "What is learned from.", "{a,b}"):
        assert part in text
    assert "Flip half, with the cues." in text and "More on it" not in text
    assert "--recipe {paper,small}" in text and "(default: 5 6)" in text


def test_supervised_has_no_flags_of_losses_it_lacks():
    command = [sys.executable, "train.py", "supervised", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "--rate" in done.stdout
    assert "--cue" not in done.stdout and "--seed-weight" not in done.stdout


COMPLETE = """
source "$1"; shift
name=$(complete -p "$1" | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
"$name"; echo "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("program", "words", "wanted"),
    [
        ("train.py", ("su",), {"supervised"}),
        ("train.py", ("sec", "--crf-"), {"--crf-scale", "--crf-steps", "--crf-input"}),
        ("train.py", ("sec", "--policy", "p"), {"poly"}),
        ("test.py", ("last.pt", "--mi"), {"--mirror"}),
        ("evaluate.py", ("--rep",), {"--report"}),
    ],
)
def test_shell_completion(program, words, wanted, tmp_path_factory):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on this machine")
    script = Path(tmp_path_factory.getbasetemp()) / f"{program}.bash"
    if not script.exists():
        command = [sys.executable, program, "--tyro-write-completion", "bash", str(script)]
        subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    command = [bash, "-c", COMPLETE, "bash", str(script), program, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert set(done.stdout.split()) == wanted, done.stderr
