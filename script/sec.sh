#!/usr/bin/env bash
# SEC from tags to an mIoU table: cues, training, test with the CRF, evaluation.
#   DATASET=scenes|voc|coco|FOLDER  OUT=out/sec  SEED=0  VOC=data/VOC2012  CUE=FILE (skips the cue networks)
. "$(dirname "$0")/chain.sh"
OUT=${OUT:-out/sec}
if [ -z "${CUE:-}" ]; then
  OUT="$OUT/cue" bash script/cue.sh
  CUE="$OUT/cue/cue.npz"
fi
train sec "$OUT/train" --cue "$CUE" ${SEC:-}
predict "$OUT/train/last.pt" "$OUT/val" --save label overlay --crf ${TEST:-}
evaluate "$OUT/val" --out "$OUT" --run "$OUT/train"
