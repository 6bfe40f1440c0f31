#!/usr/bin/env bash
# What contrast with the surroundings brings to a folder, over seeds: complete masks of the training
# images by each measure, and SEC with and without contrast, without its decays, and at stride 8.
#   SEEDS="0 1 2"  OUT=out/contrast-ablation  DATASET=FOLDER
. "$(dirname "$0")/seeds.sh"
if [ ! -d "$DATASET" ]; then
  echo "$0: set DATASET to a folder in VOC layout" >&2
  exit 1
fi
for SEED in $SEEDS; do
  run="$OUT/seed$SEED"
  chain sec "$run/auto"
  for contrast in off median local mahalanobis on; do
    python pseudo.py "$run/auto/cue/seed" "${data[@]}" "${fresh[@]}" --out "$run/$contrast" \
      --contrast "$contrast" --contrast-level 1 --quiet
    evaluate "$run/$contrast" --split train --quiet
  done
  python pseudo.py "$run/auto/cue/seed" "${data[@]}" "${fresh[@]}" --out "$run/sure-off" \
    --purpose sure --contrast off --quiet
  CUE="$run/sure-off/label" chain sec "$run/sec-off"
  CUE="$run/auto/cue/sure/label" SEC="--shape=" chain sec "$run/sec-decays"
  CUE="$run/auto/cue/sure/label" FINE= chain sec "$run/sec-coarse"
done
table --title "complete masks, mIoU on train" "map alone=off" "median=median" "local=local" \
  "mahalanobis=mahalanobis" "rule's measures=on"
table --title "SEC, mIoU on val" "without contrast=sec-off/score.json" \
  "with it, decays of the recipe=sec-decays/score.json" \
  "with it, logits at stride 8=sec-coarse/score.json" "with it=auto/score.json"
