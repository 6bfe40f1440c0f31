#!/usr/bin/env bash
# Class table of every folder of predictions under OUT, then their mIoU, one row a folder.
# OUT is the folder of a run, as in script/train.sh and script/test_multiprocess.sh, or one above
# several runs. Each folder gets score.json and report.html.
#   STAGE=sec  OUT=out/STAGE  SPLIT=val
#   DATASET            default: the data set of each folder's checkpoint; VOC as in chain.sh
#   EVALUATE           flags of evaluate.py
DATA_LATER=1
. "$(dirname "$0")/chain.sh"
OUT=${OUT:-out/${STAGE:-sec}}
SPLIT=${SPLIT:-val}
if [ "$OUT" = out/sec ] && [ ! -e out/sec ] && [ "${DATASET:-scenes}" = scenes ]; then
  echo "no predictions under out/sec yet: training on scenes and predicting first"
  bash script/test_multiprocess.sh
fi
folders=()
if [ -d "$OUT" ]; then
  while IFS= read -r folder; do folders+=("$folder"); done < <(
    find "$OUT" -type d \( -name label -o -name score \) -prune -exec dirname {} \; | sort -u)
fi
if [ ${#folders[@]} -eq 0 ]; then
  echo "evaluation.sh: no predictions under $OUT: make some with script/test_multiprocess.sh, or set OUT" >&2
  exit 1
fi

rows=() failed=0 copy=$(mktemp)
trap 'rm -f "$copy"' EXIT
for folder in "${folders[@]}"; do
  # A folder of another split does not stop the others.
  if (
    step "$folder"
    python evaluate.py "$folder" "${data[@]}" --split "$SPLIT" --report --quiet ${EVALUATE:-}
  ) | tee "$copy"; then
    rows+=("$(printf '%8s  %s' "$(tail -n 1 "$copy" | cut -d' ' -f2)" "$folder")")
  else
    rows+=("$(printf '%8s  %s' - "$folder")")
    failed=$((failed + 1))
  fi
done
printf '\n%8s  %s\n' mIoU "predictions of $SPLIT"
printf '%s\n' "${rows[@]}"
[ "$failed" -lt ${#folders[@]} ]
