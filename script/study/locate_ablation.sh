#!/usr/bin/env bash
# Pseudo masks of the training images from CAM, SEAM and one to three passes of the segmenter, over
# seeds; and the retrained network.
#   SEEDS="0 1 2"  OUT=out/locate-ablation  DATASET=scenes  EXTERNAL=FOLDER (as in locate.sh)
. "$(dirname "$0")/seeds.sh"
for SEED in $SEEDS; do
  run="$OUT/seed$SEED"
  PASSES=1 chain locate "$run"
  train seam "$run/cam" --no-equivariance
  for step in cam seam; do
    predict "$run/$step/last.pt" "$run/$step" --split train --save score --quiet
    evaluate "$run/$step" --split train --kind score --sweep --restrict-to-tags --quiet
  done
  evaluate "$run/pseudo" --split train --quiet
  for pass in 2 3; do
    train resegment "$run/pass$pass" --start "$run/seam/last.pt" --passes $pass \
      --segmenter-checkpoint "${SEGMENTER:-$run/segmenter/last.pt}"
    predict "$run/pass$pass/last.pt" "$run/pass$pass" --split train --restrict-to-tags --quiet
    evaluate "$run/pass$pass" --split train --quiet
  done
  python -m script.study.figure "$run/locate.png" "${data[@]}" CAM="$run/cam" "pass 1=$run/pseudo" \
    "pass 3=$run/pass3" truth=truth
done
table --title "pseudo masks, mIoU on train" "CAM=cam" "SEAM=seam" \
  "pass 1=pseudo" "pass 2=pass2" "pass 3=pass3" "retrained, val=score.json"
