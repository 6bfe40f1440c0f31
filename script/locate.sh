#!/usr/bin/env bash
# Locate, then segment: from tags, and masks of other classes, to an mIoU table. Segmenter on the
# external masks, localiser on the target's tags, masks of the training images, retraining, test.
#   DATASET=scenes|voc|coco|FOLDER  EXTERNAL=FOLDER  OUT=out/locate  SEED=0  VOC=data/VOC2012
#   EXTERNAL           images with masks of other classes, in VOC layout; of COCO 2017:
#                      python -m datalist.prepare.instances. For scenes they are drawn into data/external
#   SHARED=drop|keep   drop: classes that EXTERNAL and the target share teach nothing (in OUT/other;
#                      script/external.py). The default beside voc and coco is keep, as published
#   LEAVE_OUT          further classes of EXTERNAL to leave out, such as those with other names
#   SEGMENTER=FILE     checkpoint of a segmenter trained before
#   PASSES=N           number of segmenter passes, instead of the recipe's
#   SEAM, SEGMENT, RETRAIN, TEST  flags of the trainings seam, segmenter and deeplab, and of the
#                      last test.py
#   PSEUDO             flags of pseudo, which on photographs leaves unsure pixels out of the masks;
#                      answers about the maps of another run: --answers FILE --groups OUT/cue/seed/groups.npz
. "$(dirname "$0")/chain.sh"
OUT=${OUT:-out/locate}
# EXTERNAL is a folder, but its networks are those of the target's recipe.
recipe=$(python -m method.choose "$DATASET" ${TRAIN:-})
external=$(python -m method.choose "$DATASET" --external ${TRAIN:-})
case $DATASET in voc | coco) SHARED=${SHARED:-keep} ;; esac
case ${SHARED:-drop} in keep) shared=--keep ;; *) shared= ;; esac
if [ -z "${SEGMENTER:-}" ]; then
  if [ "$DATASET" = scenes ] && [ -z "${EXTERNAL:-}" ]; then
    EXTERNAL=data/external
    if [ ! -e "$EXTERNAL" ]; then python -m datalist.scenes "$EXTERNAL" --world external; fi
  fi
  : "${EXTERNAL:?set it to a folder of images with masks of other classes, or set SEGMENTER}"
  target=("${data[@]}")
  step "classes of $EXTERNAL"
  EXTERNAL=$(python -m script.external "$EXTERNAL" "${data[@]}" --out "$OUT/other" $shared \
    ${LEAVE_OUT:+--leave-out $LEAVE_OUT})
  data=(--dataset "$EXTERNAL")
  # A localiser that knows nothing gives no useful prompts: it learns alone first.
  train seam "$OUT/external" --recipe "$external" ${SEAM:-}
  train segmenter "$OUT/segmenter" --recipe "$recipe" --start "$OUT/external/last.pt" ${SEGMENT:-}
  data=("${target[@]}")
  SEGMENTER="$OUT/segmenter/last.pt"
fi
train seam "$OUT/seam" ${SEAM:-}
train resegment "$OUT/resegment" --start "$OUT/seam/last.pt" --segmenter-checkpoint "$SEGMENTER" \
  ${PASSES:+--passes "$PASSES"}
masks="$OUT/pseudo" save=label
if [ "$recipe" = photo ]; then masks="$OUT/sure" save="label score"; fi
predict "$OUT/resegment/last.pt" "$OUT/pseudo" --split train --restrict-to-tags --save $save
score_masks "$OUT/pseudo"
if [ "$recipe" = photo ]; then
  step "masks $masks"
  python pseudo.py "$OUT/pseudo" "${data[@]}" "${fresh[@]}" --out "$masks" --purpose scored ${PSEUDO:-}
fi
use_shape "$masks/label"
train deeplab "$OUT/retrain" --mask "$masks/label" $fine ${RETRAIN:-}
finish "$OUT/retrain"
