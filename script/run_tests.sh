#!/usr/bin/env bash
# Set up and run the checks: style, layers, tests. Arguments go to pytest.
set -euo pipefail
SETUP_EXTRA=requirements-dev.txt . "$(dirname "$0")/setup.sh"
ruff check .
ruff format --check .
lint-imports
python -m pytest -q "$@"
