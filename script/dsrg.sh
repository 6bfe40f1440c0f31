#!/usr/bin/env bash
# DSRG from tags to an mIoU table: cues, growing seeds, masks of the training images, retraining,
# test, evaluation.
#   DATASET=scenes|voc|coco|FOLDER  OUT=out/dsrg  SEED=0  VOC=data/VOC2012
#   CUE=FILE         cues to begin with; else the cue networks make them
#   SALIENCY=FOLDER  maps ID.png or ID.npy: background cues are where they are below 0.06
. "$(dirname "$0")/chain.sh"
OUT=${OUT:-out/dsrg}
SCALES=${SCALES:-0.75 1 1.25}
if [ -z "${CUE:-}" ]; then
  OUT="$OUT/cue" bash script/cue.sh
  CUE="$OUT/cue/cue.npz"
  if [ -n "${SALIENCY:-}" ]; then
    python -m datalist.saliency "$SALIENCY" "$OUT/cue/saliency.npz" --like "$CUE"
    CUE="$OUT/cue/cue-saliency.npz"
    python -m datalist.cue merge "$OUT/cue/foreground/cue" "$OUT/cue/saliency.npz" "$CUE"
  fi
fi
train dsrg "$OUT/train" --cue "$CUE" ${DSRG:-}
predict "$OUT/train/last.pt" "$OUT/pseudo" --split train --scales $SCALES --crf --restrict-to-tags
train dsrg-retrain "$OUT/retrain" --mask "$OUT/pseudo/label" --start "$OUT/train/last.pt" ${RETRAIN:-}
predict "$OUT/retrain/last.pt" "$OUT/val" --scales $SCALES --save label overlay --crf ${TEST:-}
evaluate "$OUT/val" --out "$OUT" --run "$OUT/retrain"
