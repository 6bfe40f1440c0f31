#!/usr/bin/env bash
# Set up and run the checks: style, layers, tests. Arguments go to pytest.
set -euo pipefail
SETUP_EXTRA=requirements-dev.txt . "$(dirname "$0")/setup.sh"
ruff check .
ruff format --check .
lint-imports
mypy
# Two at a time, a file by one of them, as its tests share what they trained. Where one dies, another
# takes over, and the summary names the test at which it died.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
python -m pytest -q -n 2 --dist loadfile -p tests.scheduler "$@"
