#!/usr/bin/env bash
# Locate, then segment: from tags, and masks of other classes, to an mIoU table. Segmenter on the
# external masks, localiser on the target's tags, masks of the training images, retraining, test.
#   DATASET=scenes|voc|coco|FOLDER  EXTERNAL=FOLDER  OUT=out/locate  SEED=0  VOC=data/VOC2012
#   EXTERNAL: images with masks in VOC layout, of whatever classes; of COCO 2017:
#             python -m datalist.instances. For scenes their other world is drawn into data/external
#   SEGMENTER=FILE   checkpoint of a segmenter trained before
#   PASSES=N         times that the segmenter segments, instead of the recipe's
. "$(dirname "$0")/chain.sh"
OUT=${OUT:-out/locate}
# A folder is trained small, but beside VOC or COCO its networks are the published ones.
case $DATASET in voc | coco) recipe="--recipe paper" ;; *) recipe= ;; esac
if [ -z "${SEGMENTER:-}" ]; then
  if [ "$DATASET" = scenes ] && [ -z "${EXTERNAL:-}" ]; then
    EXTERNAL=data/external
    if [ ! -e "$EXTERNAL" ]; then python -m datalist.scenes "$EXTERNAL" --world external; fi
  fi
  : "${EXTERNAL:?give a folder of images with masks of other classes, or SEGMENTER}"
  target=("${data[@]}")
  data=(--dataset "$EXTERNAL")
  # Prompts teach once they locate something: the external localiser learns before and beside.
  train seam "$OUT/external" $recipe ${SEAM:-}
  train segmenter "$OUT/segmenter" $recipe --start "$OUT/external/last.pt" ${SEGMENT:-}
  data=("${target[@]}")
  SEGMENTER="$OUT/segmenter/last.pt"
fi
train seam "$OUT/seam" ${SEAM:-}
train resegment "$OUT/resegment" --start "$OUT/seam/last.pt" --segmenter "$SEGMENTER" \
  ${PASSES:+--passes "$PASSES"}
predict "$OUT/resegment/last.pt" "$OUT/pseudo" --split train --restrict-to-tags
evaluate "$OUT/pseudo" --split train
train deeplab "$OUT/retrain" --mask "$OUT/pseudo/label" ${RETRAIN:-}
predict "$OUT/retrain/last.pt" "$OUT/val" --save label overlay --crf ${TEST:-}
evaluate "$OUT/val" --out "$OUT" --run "$OUT/retrain"
look "$OUT" "$OUT/retrain/last.pt"
