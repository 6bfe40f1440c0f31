"""Programs without a network start without torch, whose import takes seconds and 600 MB."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["arrange", "update", "check"])
def test_data_are_arranged_and_checked_without_torch(module):
    code = f"import sys, datalist.prepare.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
