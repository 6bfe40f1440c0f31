#!/usr/bin/env bash
# The README's table on `scenes`: CAM, SEC, SEC without each loss, and the ceiling, over seeds.
#   SEEDS="0 1 2"  OUT=out/ablation  DATASET=scenes
. "$(dirname "$0")/seeds.sh"
for SEED in $SEEDS; do
  run="$OUT/seed$SEED"
  chain cue "$run/cue"
  predict "$run/cue/foreground/last.pt" "$run/cam" --save score --restrict-to-tags --quiet
  evaluate "$run/cam" --kind score --sweep --restrict-to-tags --threshold 0.02 0.8 0.02 --quiet
  for variant in full no-seed no-expand no-constrain; do
    case $variant in full) flags= ;; *) flags="--${variant#no-}-weight 0" ;; esac
    train sec "$run/$variant" --cue "$run/cue/cue.npz" $flags
    measure "$run/$variant/last.pt" "$run/$variant/crf" --crf
  done
  measure "$run/full/last.pt" "$run/full/plain"
  train supervised "$run/supervised"
  measure "$run/supervised/last.pt" "$run/supervised/crf" --crf
done
table "CAM, tags known, best threshold=cam" "SEC, no CRF at test=full/plain" "SEC=full/crf" \
  "SEC without seeding=no-seed/crf" "SEC without expansion=no-expand/crf" \
  "SEC without constrain=no-constrain/crf" "supervised (ceiling)=supervised/crf"
