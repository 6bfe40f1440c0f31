#!/usr/bin/env bash
# The README's table on `scenes`: CAM, SEC, SEC without each loss, and the ceiling, over seeds.
#   SEEDS="0 1 2"  OUT=out/ablation  DATASET=scenes
. "$(dirname "$0")/chain.sh"
OUT=${OUT:-out/ablation}
TRAIN="${TRAIN:-} --quiet"
for SEED in ${SEEDS:-0 1 2}; do
  run="$OUT/seed$SEED"
  OUT="$run/cue" SEED=$SEED TRAIN="$TRAIN" bash script/cue.sh
  predict "$run/cue/foreground/last.pt" "$run/cam" --save score --restrict-to-tags --quiet
  evaluate "$run/cam" --kind score --restrict-to-tags --threshold 0.02 0.8 0.02 --quiet
  for variant in full no-seed no-expand no-constrain; do
    case $variant in full) flags= ;; *) flags="--${variant#no-}-weight 0" ;; esac
    train sec "$run/$variant" --cue "$run/cue/cue.npz" $flags
    predict "$run/$variant/last.pt" "$run/$variant/crf" --crf --quiet
    evaluate "$run/$variant/crf" --quiet
  done
  predict "$run/full/last.pt" "$run/full/plain" --quiet
  evaluate "$run/full/plain" --quiet
  train supervised "$run/supervised"
  predict "$run/supervised/last.pt" "$run/supervised/crf" --crf --quiet
  evaluate "$run/supervised/crf" --quiet
done
python - "$OUT" <<'PYTHON'
import json, statistics, sys
from pathlib import Path

rows = {
    "CAM, tags known, best threshold": "cam", "SEC, no CRF at test": "full/plain",
    "SEC": "full/crf", "SEC without seeding": "no-seed/crf",
    "SEC without expansion": "no-expand/crf", "SEC without constrain": "no-constrain/crf",
    "supervised (ceiling)": "supervised/crf",
}
runs = sorted(Path(sys.argv[1]).glob("seed*"))
print(f"| mIoU, {len(runs)} seeds | mean | spread |\n|---|---|---|")
for title, place in rows.items():
    found = [json.loads((run / place / "score.json").read_text())["miou"] for run in runs]
    print(f"| {title} | {statistics.mean(found):.1f} | {min(found):.1f} to {max(found):.1f} |")
PYTHON
