"""A small data set in VOC layout, made anew for each test that wants one."""

from pathlib import Path

import pytest
from own_folder import make_folder

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "own")


@pytest.fixture(scope="session")
def reference() -> Path:
    if not REFERENCE.is_dir():
        pytest.skip(f"the reference data is not at {REFERENCE}")
    return REFERENCE
