"""A test that kills its process or hangs costs itself alone, and the summary names it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_run_survives_a_dead_and_a_hanging_process(tmp_path):
    (tmp_path / "test_dead.py").write_text("import os\n\ndef test_dies():\n    os.abort()\n")
    (tmp_path / "test_slow.py").write_text(
        "import threading\n\ndef test_hangs():\n    threading.Event().wait()\n"
    )
    (tmp_path / "test_well.py").write_text("def test_goes_on():\n    pass\n")
    script = (ROOT / "script/run_tests.sh").read_text()
    flags = script[script.index("-m pytest") :].replace('"$@"', "").split()
    command = [sys.executable, *flags, "-c", ROOT / "pyproject.toml", "--rootdir", tmp_path]
    command += ["-o", "faulthandler_timeout=3", tmp_path]
    environment = {key: text for key, text in os.environ.items() if "PYTEST" not in key}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    for name in ("test_dead.py::test_dies", "test_slow.py::test_hangs"):
        assert f"crashed while running '{name}'" in done.stdout, done.stdout
    assert "2 failed, 1 passed" in done.stdout
