#!/usr/bin/env bash
# SEC from tags to an mIoU table: cues, training, test with the CRF, evaluation.
#   DATASET=scenes|voc|coco|FOLDER  OUT=out/sec  SEED=0  VOC=data/VOC2012
#   CUE=FILE           cues to learn from; else the cue networks are trained
#   SALIENCY=FOLDER    maps ID.png or ID.npy: background cues are where they are low
#   FINE=--fine|       logits at stride 4, or (empty) at 8; else as shape.json beside the cues says
#   SEC, TEST          flags of train.py sec and of the last test.py
. "$(dirname "$0")/chain.sh"
OUT=${OUT:-out/sec}
make_cue "$OUT/cue"
use_shape "$CUE"
train sec "$OUT/train" --cue "$CUE" ${shape:+--shape "$shape"} $fine $learn ${ANSWERS:+--answers "$ANSWERS"} ${SEC:-}
finish "$OUT/train"
