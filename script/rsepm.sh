#!/usr/bin/env bash
# RecurSeed and EdgePredictMix from tags to an mIoU table: single stage, seeds of the training
# images, masks from them, DeepLab-v3+ on the masks, test, evaluation.
# The seeds walk within the boundaries of an affinity network, then the CRF makes masks of them;
# AFFINITY=0: the CRF alone.
#   DATASET=scenes|voc|coco|FOLDER  OUT=out/rsepm  SEED=0  AFFINITY=1  VOC=data/VOC2012
. "$(dirname "$0")/chain.sh"
OUT=${OUT:-out/rsepm}
case $DATASET in voc|coco) scales="1 0.5 1.5 2" shrink=1 ;; *) scales="1 0.75 1.25" shrink=4 ;; esac
SCALES=${SCALES:-$scales}
train rsepm "$OUT/train" ${RSEPM:-}
predict "$OUT/train/last.pt" "$OUT/seed" --split train --scales $SCALES --mirror --save score \
  --restrict-to-tags
evaluate "$OUT/seed" --split train --kind score --sweep
# The small recipes learn small images: the CRF's widths shrink with them.
masks() { python script/pseudo.py "$OUT/seed" "${data[@]}" --crf-scale "$shrink" "$@"; }
walk=()
if [ "${AFFINITY:-1}" != 0 ]; then
  masks --out "$OUT/sure" --threshold 0.3 0.05
  train affinity "$OUT/affinity" --mask "$OUT/sure/label"
  walk=(--affinity "$OUT/affinity/last.pt" --threshold 0.25) # as in IRN
fi
masks --out "$OUT/pseudo" "${walk[@]}" ${PSEUDO:-}
evaluate "$OUT/pseudo" --split train
train deeplab "$OUT/deeplab" --mask "$OUT/pseudo/label" ${DEEPLAB:-}
predict "$OUT/deeplab/last.pt" "$OUT/val" --scales $SCALES --mirror --save label overlay --crf ${TEST:-}
evaluate "$OUT/val" --out "$OUT" --run "$OUT/deeplab"
look "$OUT" "$OUT/deeplab/last.pt"
