#!/usr/bin/env bash
# DSRG's own ablation: SEC, fixed seeds, growing seeds, retraining, over seeds; and the seeds' growth.
#   SEEDS="0 1 2"  OUT=out/dsrg-ablation  DATASET=scenes
. "$(dirname "$0")/chain.sh"
OUT=${OUT:-out/dsrg-ablation}
RECIPE=${RECIPE:-small}
TRAIN="${TRAIN:-} --recipe $RECIPE --quiet"
SCALES=${SCALES:-0.75 1 1.25}
for SEED in ${SEEDS:-0 1 2}; do
  run="$OUT/seed$SEED"
  OUT="$run/cue" SEED=$SEED TRAIN="$TRAIN" bash script/cue.sh
  python script/growth.py "${data[@]}" --recipe "$RECIPE" --seed "$SEED" \
    --cue "$run/cue/cue.npz" --out "$run/grow" --quiet
  train dsrg "$run/fixed" --cue "$run/cue/cue.npz" --no-grow
  train sec "$run/sec" --cue "$run/cue/cue.npz"
  for step in fixed grow; do
    predict "$run/$step/last.pt" "$run/$step/pseudo" --split train --scales $SCALES --crf \
      --restrict-to-tags --quiet
    train dsrg-retrain "$run/$step-retrain" --mask "$run/$step/pseudo/label" \
      --start "$run/$step/last.pt"
  done
  for step in fixed grow fixed-retrain grow-retrain sec; do
    scales="--scales $SCALES"
    if [ $step = sec ]; then scales=; fi
    predict "$run/$step/last.pt" "$run/$step/val" $scales --crf --quiet
    evaluate "$run/$step/val" --out "$run/$step" --quiet
  done
done
python - "$OUT" <<'PYTHON'
import json, statistics, sys
from pathlib import Path

rows = {
    "SEC": "sec", "DSRG, fixed seeds": "fixed", "DSRG, growing seeds": "grow",
    "fixed seeds, retrained": "fixed-retrain", "growing seeds, retrained": "grow-retrain",
}
runs = sorted(Path(sys.argv[1]).glob("seed*"))
print(f"| mIoU, {len(runs)} seeds | mean | each |\n|---|---|---|")
for title, place in rows.items():
    found = [json.loads((run / place / "score.json").read_text())["miou"] for run in runs]
    each = ", ".join(f"{value:.1f}" for value in found)
    print(f"| {title} | {statistics.mean(found):.1f} | {each} |")
growth = [json.loads((run / "grow" / "growth.json").read_text()) for run in runs]
print("\n| seeds after step | cover % | foreground right % | background right % |\n|---|---|---|---|")
for step in growth[0]:
    means = [statistics.mean(g[step][key] for g in growth) for key in growth[0][step]]
    print(f"| {step} | " + " | ".join(f"{value:.1f}" for value in means) + " |")
PYTHON
