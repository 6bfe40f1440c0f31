#!/usr/bin/env bash
# From a folder of tagged photographs to masks: bash script/photos.sh FOLDER
# Arranges and checks the folder, trains SEC from tags alone, writes masks, overlays, a report and
# the exported network. The same command continues where it stopped.
#   FOLDER   class folders (FOLDER/cat/*.jpg), or a data set in VOC layout; docs/data.md
#   TAGS=FILE          a table of tags or a json of a labelling tool instead of class folders
#   ANSWERS=FILE       answers.csv of the page OUT/questions.html that an earlier run wrote
#   OUT=out/NAME       folder of the results; NAME is that of FOLDER
#   ARRANGE, TRAIN     flags of datalist.prepare.arrange, and of every train.py
set -euo pipefail
if [ $# -ne 1 ] || [ ! -d "$1" ]; then
  echo "photos.sh: give one folder of photographs: bash script/photos.sh FOLDER" >&2
  exit 2
fi
folder=$(cd "$1" && pwd)
tags=${TAGS:+$(cd "$(dirname "$TAGS")" && pwd)/$(basename "$TAGS")}
if [ -n "${ANSWERS:-}" ]; then
  if [ ! -f "$ANSWERS" ]; then echo "photos.sh: no file ANSWERS=$ANSWERS" >&2; exit 2; fi
  export ANSWERS="$(cd "$(dirname "$ANSWERS")" && pwd)/$(basename "$ANSWERS")"
fi
AGAIN= # this command as it was typed, for pages that say what to do next
for name in TAGS OUT ARRANGE TRAIN; do
  if [ -n "${!name:-}" ]; then AGAIN+="$name=$(printf %q "${!name}") "; fi
done
again="bash $(printf %q "$0") $(printf %q "$1")"
export AGAIN="$AGAIN$again"
cd "$(dirname "$0")/.."
if [ -z "${VIRTUAL_ENV:-}" ] && [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi
if ! python -c 'import torch, densecrf' 2>/dev/null; then . script/setup.sh; fi
OUT=${OUT:-out/$(basename "$folder")}
if [ -d "$folder/JPEGImages" ] && [ -f "$folder/classes.txt" ]; then
  DATASET=$folder
else
  DATASET=$OUT/data
  if [ ! -d "$DATASET" ]; then
    python -m datalist.prepare.arrange "$folder" --out "$DATASET" ${tags:+--tags "$tags"} ${ARRANGE:-}
  fi
fi
export DATASET OUT
. script/chain.sh
step "check"
python -m datalist.prepare.check "$DATASET"
step "plan"
python -m script.plan "$DATASET" ${TRAIN:-}
bash script/sec.sh
if [ "$split" = val ]; then
  # The tagged photographs themselves, too: their tags are known.
  predict "$OUT/train/last.pt" "$OUT/masks" --split train --save label overlay --crf --restrict-to-tags
fi
step "export"
if [ ! "$OUT/home/predict.py" -nt "$OUT/train/last.pt" ]; then
  python export.py "$OUT/train/last.pt" --out "$OUT/home"
fi
larger="--recipe photo --backbone timm:resnet50.a1_in1k --area 147456 --epochs 20"
cat <<TEXT

masks            $OUT/$([ "$split" = val ] && echo masks || echo val)/label
overlays         $OUT/$([ "$split" = val ] && echo masks || echo val)/overlay
report           $OUT/report.html
network          $OUT/home: python $OUT/home/predict.py photo.jpg
questions        $([ -e "$OUT/questions.html" ] && echo "$OUT/questions.html: a few minutes of answers give better masks" || echo "none with these recipes")
Look at the report first: photographs whose tags and masks disagree are often tagged wrongly.
Better masks     more photographs of the classes that look worst; on a GPU, a larger network:
                 TRAIN="$larger" \\
                 OUT=$(printf %q "$OUT-large") $again
how long         python -m script.plan $DATASET $larger
TEXT
