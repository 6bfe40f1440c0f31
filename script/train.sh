#!/usr/bin/env bash
# Train one stage on all visible GPUs, or the CPU; the same command goes on where it stopped.
#   STAGE=sec  DATASET=scenes|voc|coco|FOLDER  OUT=out/STAGE  SEED=0  CUE=FILE  bash script/train.sh [flags of train.py]
. "$(dirname "$0")/chain.sh"
STAGE=${STAGE:-sec}
OUT=${OUT:-out/$STAGE}
cue=()
case $STAGE in
  sec | dsrg)  # these learn from cues; without a file of them, the cue networks make one
    if [ -z "${CUE:-}" ]; then
      OUT="$OUT/cue" bash script/cue.sh
      CUE="$OUT/cue/cue.npz"
    fi
    cue=(--cue "$CUE")
    ;;
esac
train "$STAGE" "$OUT/train" "${cue[@]}" "$@"
echo "checkpoint: $OUT/train/last.pt"
