#!/usr/bin/env bash
# Predict a split with a checkpoint: one process a GPU, or PROCESSES on the CPU.
# Reads OUT/train/last.pt of script/train.sh and writes OUT/SPLIT, which script/evaluation.sh scores.
#   STAGE=sec  OUT=out/STAGE  SPLIT=val  PROCESSES=0
#   CHECKPOINT=FILE    another checkpoint, such as OUT/train/step-004000.pt; OUT is then by default
#                      the folder two levels up
#   DATASET            default: the data set that the checkpoint was trained on; VOC as in chain.sh
#   CRF=1              0: without the dense CRF
# Further flags go to test.py: bash script/test_multiprocess.sh --mirror --save label score
DATA_LATER=1
. "$(dirname "$0")/chain.sh"
if [ -n "${CHECKPOINT:-}" ]; then
  OUT=${OUT:-$(dirname "$(dirname "$CHECKPOINT")")}
fi
OUT=${OUT:-out/${STAGE:-sec}}
CHECKPOINT=${CHECKPOINT:-$OUT/train/last.pt}
SPLIT=${SPLIT:-val}
if [ ! -e "$CHECKPOINT" ] && [ "$CHECKPOINT" = out/sec/train/last.pt ] && [ "${DATASET:-scenes}" = scenes ]; then
  echo "no $CHECKPOINT yet: training it on scenes first"
  bash script/train.sh
fi
if [ ! -e "$CHECKPOINT" ]; then
  echo "test_multiprocess.sh: no $CHECKPOINT: train it with script/train.sh, or set OUT or CHECKPOINT" >&2
  exit 1
fi
folder="$OUT/$SPLIT"
if [ "$SPLIT" = train ]; then folder="$OUT/train-images"; fi # OUT/train holds the network
crf=(--crf)
if [ "${CRF:-1}" = 0 ]; then crf=(); fi
split=$SPLIT
predict "$CHECKPOINT" "$folder" ${crf[@]+"${crf[@]}"} "$@"
