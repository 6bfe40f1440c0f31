#!/usr/bin/env bash
# Localization cues from tags: two classifiers, their maps, one file. Ends with OUT/cue.npz.
#   DATASET=scenes|voc|coco|FOLDER  OUT=out/cue  SEED=0  VOC=data/VOC2012
#   FOREGROUND, BACKGROUND, SEAM: flags of the trainings
#   MERGE=--overlap    keeps cells of several classes
#   CUE_STAGE=seam     one SEAM instead of SEC's two classifiers
#   SALIENCY=FOLDER    maps ID.png or ID.npy, which give the background cues; the classifier of the
#                      background is not trained
. "$(dirname "$0")/chain.sh"
OUT=${OUT:-out/cue}
network=foreground
case ${CUE_STAGE:-sec} in
  seam) network=seam; train seam "$OUT/seam" ${SEAM:-} ;;
  *) train cue-foreground "$OUT/foreground" ${FOREGROUND:-} ;;
esac
predict "$OUT/$network/last.pt" "$OUT/$network" --split train --save cue
if [ -n "${SALIENCY:-}" ]; then
  python -m datalist.saliency "$OUT/$network/cue" "$SALIENCY" "$OUT/cue.npz"
elif [ "$network" = seam ]; then
  python -m datalist.cue pack "$OUT/seam/cue" "$OUT/cue.npz"
else
  train cue-background "$OUT/background" ${BACKGROUND:-}
  predict "$OUT/background/last.pt" "$OUT/background" --split train --save cue
  python -m datalist.cue merge "$OUT/foreground/cue" "$OUT/background/cue" "$OUT/cue.npz" ${MERGE:-}
fi
