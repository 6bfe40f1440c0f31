#!/usr/bin/env bash
# DSRG from tags to an mIoU table: cues, growing seeds, masks of the training images, retraining,
# test, evaluation.
#   DATASET=scenes|voc|coco|FOLDER  OUT=out/dsrg  SEED=0  VOC=data/VOC2012
#   CUE=FILE           cues to learn from; else the cue networks are trained
#   SALIENCY=FOLDER    maps ID.png or ID.npy: background cues are where they are below 0.06
#   DSRG, RETRAIN, TEST  flags of the two trainings and of the last test.py
. "$(dirname "$0")/chain.sh"
OUT=${OUT:-out/dsrg}
make_cue "$OUT/cue"
train dsrg "$OUT/train" --cue "$CUE" ${DSRG:-}
predict "$OUT/train/last.pt" "$OUT/pseudo" --split train --crf --restrict-to-tags
score_masks "$OUT/pseudo"
train dsrg-retrain "$OUT/retrain" --mask "$OUT/pseudo/label" --start "$OUT/train/last.pt" ${RETRAIN:-}
finish "$OUT/retrain"
