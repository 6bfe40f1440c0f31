#!/usr/bin/env bash
# System zero, from tags to an mIoU table: class activation maps, sure masks of the training images
# by the dense CRF, a segmentation network trained on them, test, evaluation.
#   DATASET=scenes|voc|coco|FOLDER  OUT=out/cam  SEED=0  VOC=data/VOC2012
#   CAM, PSEUDO, DEEPLAB, TEST  flags of train.py cam, pseudo, train.py deeplab, test.py
. "$(dirname "$0")/chain.sh"
OUT=${OUT:-out/cam}
make_sure "$OUT"
use_shape "$OUT/sure/label"
train deeplab "$OUT/deeplab" --mask "$OUT/sure/label" $fine ${DEEPLAB:-}
finish "$OUT/deeplab"
