#!/usr/bin/env bash
# Localization cues from tags: two classifiers, their maps, one file. Ends with OUT/cue.npz.
#   DATASET=scenes|voc|coco|FOLDER  OUT=out/cue  SEED=0  VOC=data/VOC2012
#   FOREGROUND, BACKGROUND: flags of the two trainings; MERGE=--overlap keeps cells of several classes
#   CUE_STAGE=seam   one SEAM instead of SEC's two classifiers, foreground and background
. "$(dirname "$0")/chain.sh"
OUT=${OUT:-out/cue}
if [ -e "$OUT/cue.npz" ]; then echo "$OUT/cue.npz is there"; exit 0; fi
if [ "${CUE_STAGE:-sec}" = seam ]; then
  train seam "$OUT/seam" ${SEAM:-}
  predict "$OUT/seam/last.pt" "$OUT/seam" --split train --save cue
  python -m datalist.cue pack "$OUT/seam/cue" "$OUT/cue.npz"
  exit 0
fi
train cue-foreground "$OUT/foreground" ${FOREGROUND:-}
train cue-background "$OUT/background" ${BACKGROUND:-}
predict "$OUT/foreground/last.pt" "$OUT/foreground" --split train --save cue
predict "$OUT/background/last.pt" "$OUT/background" --split train --save cue
python -m datalist.cue merge "$OUT/foreground/cue" "$OUT/background/cue" "$OUT/cue.npz" ${MERGE:-}
