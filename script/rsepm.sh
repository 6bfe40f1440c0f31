#!/usr/bin/env bash
# RecurSeed and EdgePredictMix from tags to an mIoU table: single stage and its own table, seeds of
# the training images, masks from them, DeepLab-v3+ on the masks, test, evaluation.
#   DATASET=scenes|voc|coco|FOLDER  OUT=out/rsepm  SEED=0  VOC=data/VOC2012
#   CUE=FOLDER|none    cues as masks, ID.png with 255 where there is none. Without CUE photographs
#                      get sure masks of activation maps, as for SEC and DSRG; other data sets get
#                      no cues, as published
#   AFFINITY=1         the seeds walk within the boundaries of an affinity network before the CRF
#                      makes masks of them; 0: the CRF alone
#   RSEPM, WALK, PSEUDO, DEEPLAB, TEST  flags of the trainings rsepm, affinity and deeplab, of
#                      pseudo (PSEUDO) and of the last test.py
. "$(dirname "$0")/chain.sh"
OUT=${OUT:-out/rsepm}
masks() { step "masks $2"; python pseudo.py "$OUT/seed" "${data[@]}" "${fresh[@]}" "$@"; }
if [ -z "${CUE:-}" ] && on_photos; then
  make_sure "$OUT/cue"
  CUE="$OUT/cue/sure/label"
fi
if [ "${CUE:-}" = none ]; then CUE=; fi
train rsepm "$OUT/train" ${CUE:+--cue "$CUE"} ${RSEPM:-}
if [ "$split" = val ]; then
  predict "$OUT/train/last.pt" "$OUT/single" --crf
  evaluate "$OUT/single"
fi
predict "$OUT/train/last.pt" "$OUT/seed" --split train --save score --restrict-to-tags
score_masks "$OUT/seed" --kind score --sweep
walk=()
if [ "${AFFINITY:-1}" != 0 ]; then
  masks --out "$OUT/sure" --purpose sure
  train affinity "$OUT/affinity" --mask "$OUT/sure/label" ${WALK:-}
  walk=(--purpose walked --affinity "$OUT/affinity/last.pt")
fi
masks --out "$OUT/pseudo" ${walk[@]+"${walk[@]}"} ${PSEUDO:-}
score_masks "$OUT/pseudo"
use_shape "${CUE:-$OUT/pseudo/label}"
train deeplab "$OUT/deeplab" --mask "$OUT/pseudo/label" $fine ${DEEPLAB:-}
finish "$OUT/deeplab"
