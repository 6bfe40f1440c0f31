#!/usr/bin/env bash
# Every check that needs a GPU, in under 10 minutes and without a network; ends with one table.
#   bash benchmark/gpu.sh [FOLDER for the numbers, default out/gpu]
#   DEVICE=cpu bash benchmark/gpu.sh   the same commands at smoke size: only whether they run
set -uo pipefail
cd "$(dirname "$0")/.."
if [ -z "${VIRTUAL_ENV:-}" ] && [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi
PYTHON=$(command -v python || command -v python3)
OUT=${1:-out/gpu}
DEVICE=${DEVICE:-cuda}
step=() losses=() path=()
if [ "$DEVICE" = cpu ]; then
  step=(--recipe smoke --times 1 --compare 10) losses=(--batch 2 --grid 9 --times 3) path=(--count 1 --times 1)
elif ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "benchmark/gpu.sh: no GPU at hand: this machine has no CUDA device" >&2
  exit 1
fi
mkdir -p "$OUT"
rm -f "$OUT"/*.json  # numbers of an earlier run are none of this one's
failed=0
check() {  # NAME COMMAND...: run, keep the output, go on after a failure
  local name=$1; shift
  if timeout 240 "$@" >"$OUT/$name.txt" 2>&1; then
    echo "$name: done"
  else
    failed=1; echo "$name: FAILED"; tail -3 "$OUT/$name.txt"
  fi
}
check train_step "$PYTHON" -m benchmark.train_step --device "$DEVICE" "${step[@]}" --json "$OUT/train_step.json"
check losses "$PYTHON" -m benchmark.losses --device "$DEVICE" "${losses[@]}" --json "$OUT/losses.json"
check test_path "$PYTHON" benchmark/test_path.py "${path[@]}" --json "$OUT/test_path.json"
check exact_resume "$PYTHON" -m pytest -q tests/utils/test_gpu.py
echo
"$PYTHON" - "$OUT" <<'PYTHON_END'
import json, sys
from pathlib import Path
for path in sorted(Path(sys.argv[1]).glob("*.json")):
    for key, value in json.loads(path.read_text()).items():
        shown = f"{value:.4g}" if isinstance(value, float) else value
        print(f"{path.stem:12}{key.replace('_', ' '):36}{shown!s:>24}")
PYTHON_END
exit $failed
