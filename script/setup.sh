#!/usr/bin/env bash
# Set up: a .venv unless an environment is active, then the requirements and the compiled CRF.
#   bash script/setup.sh     PYTHON=python3  SETUP_EXTRA=requirements-dev.txt (also installs these)
# Also sourced by quickstart.sh and run_tests.sh. Nothing is installed twice: a stamp remembers the
# files that were installed from.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/help.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}
if [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ]; then
  if [ ! -x .venv/bin/python ]; then
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
      { echo "setup: Python 3.10 or newer is needed; set PYTHON=/path/to/python3" >&2; exit 1; }
    "$PYTHON" -m venv .venv ||
      { echo "setup: 'python -m venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
  fi
  . .venv/bin/activate
fi
wanted="requirements.txt ${SETUP_EXTRA:-}"
sum=$({ find CRF -type f -not -path '*/build/*' -not -path '*/__pycache__/*' -print0 | sort -z |
  xargs -0 cat; cat $wanted; } | cksum | cut -d' ' -f1)
stamp="$(python -c 'import sys; print(sys.prefix)')/.seedseg-$sum"
if [ ! -e "$stamp" ]; then
  echo "setup: installing $wanted (some minutes the first time)"
  pip="python -m pip install --quiet --disable-pip-version-check"
  # The CRF from a wheel in CRF/dist, else it is compiled. Not from the index, where the name is not ours.
  version=$(sed -n 's/^version = "\(.*\)"/\1/p' CRF/pyproject.toml)
  $pip --no-index --no-deps --find-links CRF/dist "densecrf==$version" >/dev/null 2>&1 ||
    $pip ./CRF
  for file in $wanted; do grep -v '^\(\./CRF\|-r \)' "$file"; done >"$stamp.txt"
  $pip -r "$stamp.txt"
  mv "$stamp.txt" "$stamp"
fi
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  python - <<'PYTHON'
import platform
from importlib.metadata import version

names = ("torch", "torchvision", "timm", "numpy", "opencv-python-headless", "pillow", "densecrf")
print("setup: Python", platform.python_version(), *(f"{name} {version(name)}" for name in names))
PYTHON
  if [ "${VIRTUAL_ENV:-}" = "$PWD/.venv" ]; then
    echo "setup: ready; the scripts use .venv by themselves, for your own commands: . .venv/bin/activate"
  else
    echo "setup: ready in ${VIRTUAL_ENV:-${CONDA_PREFIX:-}}"
  fi
fi
