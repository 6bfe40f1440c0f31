#!/usr/bin/env bash
# RecurSeed and EdgePredictMix from tags to an mIoU table: single stage, seeds of the training
# images, masks from them, DeepLab-v3+ on the masks, test, evaluation.
#   DATASET=scenes|voc|coco|FOLDER  OUT=out/rsepm  SEED=0  VOC=data/VOC2012
. "$(dirname "$0")/chain.sh"
OUT=${OUT:-out/rsepm}
case $DATASET in voc|coco) scales="1 0.5 1.5 2" shrink=1 ;; *) scales="1 0.75 1.25" shrink=4 ;; esac
SCALES=${SCALES:-$scales}
train rsepm "$OUT/train" ${RSEPM:-}
predict "$OUT/train/last.pt" "$OUT/seed" --split train --scales $SCALES --mirror --save score \
  --restrict-to-tags
evaluate "$OUT/seed" --split train --kind score --sweep
# The small recipes learn small images: the CRF's widths shrink with them.
python script/pseudo.py "$OUT/seed" "${data[@]}" --out "$OUT/pseudo" --crf-scale "$shrink" ${PSEUDO:-}
evaluate "$OUT/pseudo" --split train
train deeplab "$OUT/deeplab" --mask "$OUT/pseudo/label" ${DEEPLAB:-}
predict "$OUT/deeplab/last.pt" "$OUT/val" --scales $SCALES --mirror --save label overlay --crf ${TEST:-}
evaluate "$OUT/val" --out "$OUT" --run "$OUT/deeplab" --report
