"""The documentation: links, files and commands in it exist, and so do the flags of the commands."""

import ast
import contextlib
import io
import re
import runpy
import shlex
import sys
import textwrap
from functools import cache
from pathlib import Path
from unittest.mock import patch

import pytest

# `runpy` warns of modules that the tests have imported before.
pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = {"out", "data", "build", "dist", "node_modules"}
PAGES = sorted(
    page.relative_to(ROOT)
    for page in ROOT.rglob("*.md")
    if not any(p in SKIPPED or p.startswith(".") for p in page.relative_to(ROOT).parts)
)
FENCE = re.compile(r"^[ ]*```(\w*)\n(.*?)^[ ]*```", re.M | re.S)
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
FOLDERS = "script|benchmark|datalist|method|network|loss|refine|base|utils|tests|docs|CRF"
PROGRAMS = ("base", "datalist", "loss", "method", "network", "refine", "script", "utils", "CRF/src")
OTHER_PROGRAMS = {".", "awk", "cd", "cp", "git", "mkdir", "pip", "pytest", "ruff", "lint-imports"}
OTHER_PROGRAMS |= {"cmake", "fuzz/fuzz", "build", "twine", "auditwheel", "abi3audit", "docker"}
MADE = {"CRF/dist"}
"""Folders that a command on the page makes."""
FORWARDED = {
    "train.sh": "train.py sec",
    "test_multiprocess.sh": "test.py",
    "voc_server.sh": "test.py",
}
"""Scripts that pass their flags on, and to which program."""
OF_OTHERS = {"--install", "--nodes", "--ntasks-per-node", "--gpus-per-node", "--help"}
"""Flags in the text of programs that are not ours."""


def text(page: Path) -> str:
    return (ROOT / page).read_text("utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a language."""
    return [body for name, body in FENCE.findall(text(page)) if name == language]


def commands(page: Path) -> list[list[str]]:
    """Words of each command of the page's bash blocks; lines that a backslash continues are one."""
    found = []
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            if re.search(r"\$\(|<<", line):  # the words inside are another program's
                line = re.sub(r'"?\$\(.*\)[^"\s]*"?', "VALUE", line)
            words = shlex.split(line, comments=True)
            while words:
                end = next((i for i, w in enumerate(words) if w in ("&&", "|", ";")), len(words))
                found.append(words[:end])
                words = words[end + 1 :]
    return [words for words in found if words]


@cache
def help_of(program: str) -> str:
    """What a program, such as "train.py sec" or "export.py", prints for --help."""
    words = program.split()
    module = words[0] == "-m"
    name, *rest = words[1:] if module else words
    output, before = io.StringIO(), sys.argv
    sys.argv = [name, *rest, "--help"]
    beside = [str(ROOT / "base"), str(ROOT / "datalist")]  # where predict.py's tile and tiff are
    try:
        with (
            contextlib.redirect_stdout(output),
            patch.object(sys, "path", [*sys.path, *beside]),
            pytest.raises(SystemExit) as stop,
        ):
            if module:
                runpy.run_module(name, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(str(ROOT / name), run_name="__main__")
    finally:
        sys.argv = before
    assert not stop.value.code, f"{program} --help ends with {stop.value.code}"
    return output.getvalue()


def check_flags(program: str, words: list[str]) -> None:
    """Every flag among the words is in the program's help."""
    asked = {word.split("=")[0] for word in words if FLAG.match(word)}
    asked = {flag for flag in asked if not flag.startswith("--tyro-")}
    unknown = asked - set(FLAG.findall(help_of(program)))
    assert not unknown, f"{program} has no {', '.join(sorted(unknown))}"


def check_command(words: list[str]) -> None:
    """A command's program exists, and has the flags and variables that are set."""
    variables = []
    while words and re.match(r"[A-Z_]+=", words[0]):
        variables.append(words.pop(0).partition("=")[0])
    if not words:
        return
    if words[0] == "srun":
        words = words[1:]
    first = words[0]
    if first == "torchrun":  # its own flags, then our program
        words = words[next(i for i, word in enumerate(words) if word.endswith(".py")) - 1 :]
    elif first == "bash":
        script = ROOT / words[1]
        assert script.is_file(), f"{words[1]} does not exist"
        source = script.read_text("utf-8") + (ROOT / "script/chain.sh").read_text("utf-8")
        for name in variables:
            assert re.search(rf"\b{name}\b", source), f"{words[1]} does not read {name}"
        if script.name in FORWARDED:
            check_flags(FORWARDED[script.name], words[2:])
        elif script.name != "run_tests.sh":
            assert not any(map(FLAG.match, words)), f"{words[1]} takes no flags"
        return
    elif not first.startswith("python") and not first.endswith(".py"):
        assert first in OTHER_PROGRAMS, f"is {first} a program?"
        return
    if first.startswith("python") and words[1] == "-m" and words[2] in OTHER_PROGRAMS:
        return
    if first.startswith("python") or first == "torchrun":
        words = words[1:]
    if words[0].endswith("predict.py"):  # of an exported network
        words[0] = "utils/template/predict.py"
    length = 2 if words[0] == "-m" else 1
    if words[0] != "-m":
        assert (ROOT / words[0]).is_file(), f"{words[0]} does not exist"
    # Programs with subcommands: the flags are those of the subcommand.
    if words[0] == "train.py" or words[length - 1] == "datalist.cue":
        length += 1
    if words[:2] == ["-m", "datalist.prepare.convert"] and words[2] in ("msrc", "camvid", "neu"):
        length += 1
    check_flags(" ".join(words[:length]), words[length:])


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links(page):
    prose = FENCE.sub("", text(page))
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not target.startswith(("http://", "https://", "#")):
            path = (ROOT / page).parent / target.partition("#")[0]
            assert path.exists(), f"{page} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands(page, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(ROOT)
    for words in commands(page):
        line = " ".join(words)
        try:
            check_command(words)
        except AssertionError as error:
            raise AssertionError(f"{page}: {line}: {error}") from None


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_named_files(page):
    """Files of this repository that the text names exist; NAME in capitals stands for any name."""
    if page == Path("tests/reference/README.md"):
        pytest.skip("names files of other projects")
    for name in re.findall(rf"(?<![\w/.-])(?:{FOLDERS})/[\w*./-]*\w", text(page)):
        if not re.search(r"/[A-Z]+\b(?!/)", name) and not name.startswith(tuple(MADE)):
            assert list(ROOT.glob(name)) or list(ROOT.glob(f"CRF/{name}")), f"{page} names {name}"


def test_flags_in_the_text(monkeypatch):
    """Flags in the prose belong to some program or to a command on the page."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(ROOT)
    stages = "cue-foreground sec dsrg rsepm seam resegment supervised deeplab"
    programs = [f"train.py {stage}" for stage in stages.split()]
    programs += ["train.py deeplab --recipe photo --backbone timm:test_vit"]
    programs += ["test.py", "evaluate.py", "-m utils.report.annotate", "export.py"]
    programs += ["-m datalist.prepare.arrange", "-m datalist.cue merge", "-m script.released"]
    programs += ["-m datalist.prepare.convert", "-m datalist.prepare.convert msrc"]
    programs += ["-m datalist.prepare.masks", "-m datalist.prepare.check", "-m pseudo"]
    programs += ["utils/template/predict.py"]
    known = {flag for program in programs for flag in FLAG.findall(help_of(program))}
    for page in PAGES:
        prose = FENCE.sub("", text(page))
        used = {f for code in re.findall(r"`([^`]+)`", prose) for f in FLAG.findall(code)}
        written = {flag for words in commands(page) for flag in words}
        unknown = used - known - written - OF_OTHERS
        for name in ("crf", "train_step", "crf_rivals") if unknown else ():
            unknown -= set(FLAG.findall(help_of(f"-m benchmark.{name}")))
        assert not unknown, f"{page} names flags that no program has"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_python_blocks(page):
    for block in blocks(page, "python"):
        ast.parse(textwrap.dedent(block))


@pytest.mark.parametrize(("page", "lines"), [("README.md", 140), ("CRF/README.md", 90)])
def test_readme_is_short(page, lines):
    assert len(text(Path(page)).splitlines()) <= lines


@cache
def messages() -> tuple[str, ...]:
    """String literals of the programs; of an f-string the literal parts, "..." between them."""
    found = []
    files = [
        *ROOT.glob("*.py"),
        *(p for folder in PROGRAMS for p in ROOT.glob(f"{folder}/**/*.py")),
    ]
    for file in files:
        nodes = list(ast.walk(ast.parse(file.read_text("utf-8"))))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if id(node) in docstrings:
                continue
            if isinstance(node, ast.JoinedStr):
                parts = (
                    part.value if isinstance(part, ast.Constant) else "..." for part in node.values
                )
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return (*found, *(file.read_text("utf-8") for file in ROOT.glob("script/*.sh")))


def test_quoted_messages_are_those_of_the_code():
    """The page's first column; numbers and "..." of a quote stand for what the program fills in."""
    rows = re.findall(r"^\| (`[^|]*`) \|", text(Path("docs/troubleshooting.md")), re.M)
    quotes = [quote for row in rows for quote in re.findall(r"`([^`]+)`", row)]
    assert len(quotes) > 10
    for quote in quotes:
        parts = (re.escape(part) for part in re.split(r"\.\.\.|\d+", quote))
        pattern = re.compile(".*?".join(parts), re.S)
        assert any(map(pattern.search, messages())), f"no program prints '{quote}'"


def test_nothing_is_left_to_do():
    marker = "TODO-" + "LEAD"
    left = {str(page): text(page).count(marker) for page in PAGES if marker in text(page)}
    assert not left, f"numbers that are missing: {left}"
