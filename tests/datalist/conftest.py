"""A small data set in VOC layout, made anew for each test that wants one.

HYPOTHESIS_PROFILE=fuzz gives every reader 10 000 damaged files instead of 100.
"""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from own_folder import make_folder

# No deadline: how long a case takes says nothing on a machine that does other work.
settings.register_profile("quick", deadline=None)
settings.register_profile(
    "fuzz", deadline=None, max_examples=10_000, suppress_health_check=list(HealthCheck)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "own")


@pytest.fixture(scope="session")
def reference() -> Path:
    if not REFERENCE.is_dir():
        pytest.skip(f"the reference data is not at {REFERENCE}")
    return REFERENCE
