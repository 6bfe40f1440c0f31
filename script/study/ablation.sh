#!/usr/bin/env bash
# The README's table on `scenes`: CAM, SEC, SEC without each loss, and the ceiling, over seeds.
#   SEEDS="0 1 2"  OUT=out/ablation  DATASET=scenes
. "$(dirname "$0")/../chain.sh"
OUT=${OUT:-out/ablation}
TRAIN="${TRAIN:-} --quiet"
for SEED in ${SEEDS:-0 1 2}; do
  run="$OUT/seed$SEED"
  OUT="$run/cue" SEED=$SEED TRAIN="$TRAIN" bash script/cue.sh
  predict "$run/cue/foreground/last.pt" "$run/cam" --save score --restrict-to-tags --quiet
  evaluate "$run/cam" --kind score --sweep --restrict-to-tags --threshold 0.02 0.8 0.02 --quiet
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
python -m script.study.table "$OUT" "CAM, tags known, best threshold=cam" "SEC, no CRF at test=full/plain" \
  "SEC=full/crf" "SEC without seeding=no-seed/crf" "SEC without expansion=no-expand/crf" \
  "SEC without constrain=no-constrain/crf" "supervised (ceiling)=supervised/crf"
