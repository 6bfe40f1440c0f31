#!/usr/bin/env bash
# DSRG's own ablation: SEC, fixed seeds, growing seeds, retraining, over seeds.
#   SEEDS="0 1 2"  OUT=out/dsrg-ablation  DATASET=scenes
. "$(dirname "$0")/seeds.sh"
for SEED in $SEEDS; do
  run="$OUT/seed$SEED"
  chain cue "$run/cue"
  cue=(--cue "$run/cue/cue.npz")
  train dsrg "$run/grow" "${cue[@]}"
  train dsrg "$run/fixed" "${cue[@]}" --no-grow
  train sec "$run/sec" "${cue[@]}"
  for step in fixed grow; do
    predict "$run/$step/last.pt" "$run/$step/pseudo" --split train --crf --restrict-to-tags --quiet
    train dsrg-retrain "$run/$step-retrain" --mask "$run/$step/pseudo/label" \
      --start "$run/$step/last.pt"
  done
  for step in fixed grow fixed-retrain grow-retrain sec; do
    measure "$run/$step/last.pt" "$run/$step/val" --crf
  done
done
table "SEC=sec/val" "DSRG, fixed seeds=fixed/val" "DSRG, growing seeds=grow/val" \
  "fixed seeds, retrained=fixed-retrain/val" "growing seeds, retrained=grow-retrain/val"
