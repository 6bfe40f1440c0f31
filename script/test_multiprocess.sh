#!/usr/bin/env bash
# Dump prediction maps of a checkpoint: one process a GPU, or PROCESSES on the CPU.
#   CHECKPOINT=out/sec/train/last.pt  OUT=out/sec/val  DATASET=scenes  SPLIT=val  PROCESSES=0
# Further flags go to test.py: bash script/test_multiprocess.sh --mirror --save label score
. "$(dirname "$0")/chain.sh"
CHECKPOINT=${CHECKPOINT:-out/sec/train/last.pt}
OUT=${OUT:-$(dirname "$(dirname "$CHECKPOINT")")/val}
if [ ! -e "$CHECKPOINT" ]; then
  if [ "$CHECKPOINT" = out/sec/train/last.pt ] && [ "$DATASET" = scenes ]; then
    echo "no $CHECKPOINT yet: training it first"
    OUT=out/sec bash script/sec.sh
  else
    echo "test_multiprocess.sh: $CHECKPOINT does not exist; name one with CHECKPOINT=..." >&2
    exit 1
  fi
fi
predict "$CHECKPOINT" "$OUT" --split "${SPLIT:-val}" --processes "${PROCESSES:-0}" --crf "$@"
