#!/usr/bin/env bash
# Predict VOC's test images and pack the archive that the VOC evaluation server takes:
# results/VOC2012/Segmentation/comp6_test_cls/ID.png in OUT/voc_test.tar.gz.
#   CHECKPOINT=FILE    default OUT/train/last.pt; the last network of a chain is the one to submit
#   STAGE=sec  OUT=out/STAGE  VOC=data/VOC2012   VOC2012 with the images of the test set
#   COMPETITION=comp6  comp5: trained on VOC's images alone, without ImageNet weights
#   SPLIT=test  CRF=1  as in script/test_multiprocess.sh, whose flags this takes too
export DATASET=${DATASET:-voc} SPLIT=${SPLIT:-test}
. "$(dirname "$0")/chain.sh"
if [ -n "${CHECKPOINT:-}" ]; then OUT=${OUT:-$(dirname "$(dirname "$CHECKPOINT")")}; fi
export OUT=${OUT:-out/${STAGE:-sec}}
bash script/test_multiprocess.sh "$@"
label="$OUT/$SPLIT/label"
wanted=$(python -c 'import sys; from datalist.spec import resolve
print(len(resolve(sys.argv[1], sys.argv[2] or None).ids(sys.argv[3])))' "$DATASET" "${data[3]:-}" "$SPLIT")
have=$(find "$label" -name '*.png' -not -name '.*' | wc -l)
if [ "$have" -ne "$wanted" ]; then
  echo "voc_server.sh: $label has $have files and the split $SPLIT $wanted images: remove the folder and start again" >&2
  exit 1
fi
draft=$(mktemp -d "$OUT/.voc-server-XXXXXX")
trap 'rm -rf "$draft"' EXIT
folder="$draft/results/VOC2012/Segmentation/${COMPETITION:-comp6}_test_cls"
mkdir -p "$folder"
cp "$label"/*.png "$folder"
tar -C "$draft" -czf "$draft/archive" results
mv "$draft/archive" "$OUT/voc_$SPLIT.tar.gz"
echo "$OUT/voc_$SPLIT.tar.gz"
