#!/usr/bin/env bash
# mIoU of every folder of predictions under OUT, a row each; reports beside them.
#   DATASET=scenes|voc|coco|FOLDER  OUT=out  SPLIT=val  EVALUATE="extra flags of evaluate.py"
. "$(dirname "$0")/chain.sh"
OUT=${OUT:-out}
SPLIT=${SPLIT:-val}

if [ "$OUT" = out ] && [ "$DATASET" = scenes ] && [ ! -d out ]; then
  echo "no predictions yet: training SEC on scenes first"
  OUT=out/sec bash script/sec.sh
fi

folders=()
if [ -d "$OUT" ]; then
  while IFS= read -r folder; do folders+=("$folder"); done < <(
    find "$OUT" -type d \( -name label -o -name score \) -prune -exec dirname {} \; | sort -u)
fi
if [ ${#folders[@]} -eq 0 ]; then
  echo "evaluation.sh: no predictions under $OUT; make some with script/sec.sh, or set OUT." >&2
  exit 1
fi

rows=() failed=0
for folder in "${folders[@]}"; do
  # A folder of another split or data set is no reason to leave out the others.
  if text=$(evaluate "$folder" --split "$SPLIT" --quiet ${EVALUATE:-}); then
    rows+=("$(printf '%8s  %s' "$(tail -n 1 <<<"$text" | cut -d' ' -f2)" "$folder")")
  else
    rows+=("$(printf '%8s  %s' - "$folder")")
    failed=$((failed + 1))
  fi
done
printf '%8s  %s\n' mIoU "predictions on $DATASET $SPLIT"
printf '%s\n' "${rows[@]}"
[ "$failed" -lt ${#folders[@]} ]
