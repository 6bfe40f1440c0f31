#!/usr/bin/env bash
# Train one stage on all visible GPUs, or the CPU. The same command continues where it stopped.
# Writes OUT/train/last.pt; script/test_multiprocess.sh and script/evaluation.sh take the same OUT.
#   STAGE=sec  OUT=out/STAGE  DATASET=scenes|voc|coco|FOLDER  VOC=data/VOC2012  SEED=0  PROCESSES=0
#   CUE=FILE  SALIENCY=FOLDER   cues of sec and dsrg, see script/sec.sh
# Further flags go to train.py: bash script/train.sh --batch 20 --keep-every 1000
. "$(dirname "$0")/chain.sh"
STAGE=${STAGE:-sec}
OUT=${OUT:-out/$STAGE}
cue=()
case $STAGE in
  sec | dsrg)
    make_cue "$OUT/cue"
    cue=(--cue "$CUE")
    ;;
esac
train "$STAGE" "$OUT/train" "${cue[@]}" "$@"
echo "checkpoint: $OUT/train/last.pt"
