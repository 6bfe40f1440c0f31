#!/usr/bin/env bash
# DSRG's own ablation: SEC, fixed seeds, growing seeds, retraining, over seeds; and the seeds' growth.
#   SEEDS="0 1 2"  OUT=out/dsrg-ablation  DATASET=scenes
. "$(dirname "$0")/../chain.sh"
OUT=${OUT:-out/dsrg-ablation}
TRAIN="${TRAIN:-} --quiet"
for SEED in ${SEEDS:-0 1 2}; do
  run="$OUT/seed$SEED"
  OUT="$run/cue" SEED=$SEED TRAIN="$TRAIN" bash script/cue.sh
  python -m script.study.growth "${data[@]}" ${TRAIN:-} --seed "$SEED" --cue "$run/cue/cue.npz" \
    --out "$run/grow"
  train dsrg "$run/fixed" --cue "$run/cue/cue.npz" --no-grow
  train sec "$run/sec" --cue "$run/cue/cue.npz"
  for step in fixed grow; do
    predict "$run/$step/last.pt" "$run/$step/pseudo" --split train --crf --restrict-to-tags \
      --quiet
    train dsrg-retrain "$run/$step-retrain" --mask "$run/$step/pseudo/label" \
      --start "$run/$step/last.pt"
  done
  for step in fixed grow fixed-retrain grow-retrain sec; do
    predict "$run/$step/last.pt" "$run/$step/val" --crf --quiet
    evaluate "$run/$step/val" --out "$run/$step" --quiet
  done
done
python -m script.study.table "$OUT" "SEC=sec" "DSRG, fixed seeds=fixed" "DSRG, growing seeds=grow" \
  "fixed seeds, retrained=fixed-retrain" "growing seeds, retrained=grow-retrain"
python - "$OUT" <<'PYTHON'
import json, statistics, sys
from pathlib import Path

growth = [json.loads(path.read_text()) for path in sorted(Path(sys.argv[1]).glob("seed*/grow/growth.json"))]
print("\n| seeds after step | cover % | foreground right % | background right % |\n|---|---|---|---|")
for step in growth[0]:
    means = [statistics.mean(run[step][key] for run in growth) for key in growth[0][step]]
    print(f"| {step} | " + " | ".join(f"{value:.1f}" for value in means) + " |")
PYTHON
