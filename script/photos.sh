#!/usr/bin/env bash
# From a folder of tagged photographs to masks: bash script/photos.sh FOLDER [flags]
# Arranges and checks the folder, trains SEC from tags alone, writes masks, overlays, a report and
# the exported network. The same command continues where it stopped. Where pictures were added,
# removed, replaced or moved since, it trains again, and keeps what it made before in old-1.
#   FOLDER   class folders (FOLDER/cat/*.jpg), or a data set in VOC layout; docs/data.md
#   flags    of datalist.prepare.arrange, such as --layout words; later runs keep them
#   TAGS=FILE          a table of tags or a json of a labelling tool instead of class folders
#   ANSWERS=FILE       answers.csv of the page OUT/questions.html that an earlier run wrote
#   OUT=out/NAME       folder of the results; NAME is that of FOLDER
#   ARRANGE, CHECK, TRAIN, TEST  flags of datalist.prepare.arrange, datalist.prepare.check, every
#                      train.py, and the last test.py, such as "--tile 1000"; split at blanks
set -euo pipefail
. "$(dirname "$0")/help.sh"
if [ $# -eq 0 ] || [ ! -d "$1" ]; then
  echo "photos.sh: give a folder of photographs: bash script/photos.sh FOLDER" >&2
  exit 2
fi
absolute() { printf '%s/%s' "$(cd "$(dirname "$1")" && pwd)" "$(basename "$1")"; }
typed() { # VARIABLE ...: those that are set, and this command, as they were typed
  local name
  for name; do
    if [ -n "${!name:-}" ]; then printf '%s=%q ' "$name" "${!name}"; fi
  done
  printf '%s' "$command"
}
command="bash$(printf ' %q' "$0" "$@")"
larger_again=$(typed TAGS ARRANGE CHECK TEST)
AGAIN=$(typed TAGS OUT ARRANGE CHECK TRAIN TEST) # for pages that say what to do next
export AGAIN
folder=$(cd "$1" && pwd)
shift
flags=("$@" ${ARRANGE:-})
if [ -n "${TAGS:-}" ]; then flags+=(--tags "$(absolute "$TAGS")"); fi
if [ -n "${ANSWERS:-}" ]; then
  if [ ! -f "$ANSWERS" ]; then echo "photos.sh: no file ANSWERS=$ANSWERS" >&2; exit 2; fi
  ANSWERS=$(absolute "$ANSWERS")
  export ANSWERS
fi
set --
cd "$(dirname "$0")/.."
if [ -z "${VIRTUAL_ENV:-}" ] && [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi
if ! installed torch densecrf; then . script/setup.sh; fi
export OUT=${OUT:-out/$(basename "$folder")}
if [ -d "$folder/JPEGImages" ] && [ -f "$folder/classes.txt" ]; then
  export DATASET=$folder
  echo "$folder is in VOC layout and is used as it is; where it changed, training asks for FRESH=1"
else
  export DATASET=$OUT/data
  python -m datalist.prepare.update "$folder" --out "$DATASET" ${flags[@]+"${flags[@]}"}
fi
if [ -e "$OUT/.changed" ]; then export FRESH=1; fi # since the last run that reached its end
. script/chain.sh
step "check"
python -m datalist.prepare.check "$DATASET" ${CHECK:-}
step "plan"
python -m script.plan "$DATASET" ${TRAIN:-}
TAKE_HOME=$OUT/home bash script/sec.sh
masks=$OUT/train-images
if [ "$split" = val ]; then
  # The tagged photographs themselves, too: their tags are known.
  predict "$OUT/train/last.pt" "$masks" --split train --save label overlay cover --crf \
    --restrict-to-tags ${TEST:-}
fi
rm -f "$OUT/.changed"
larger="--recipe photo --backbone timm:resnet50.a1_in1k --area 147456 --epochs 20"
questions="none with these recipes"
if [ -e "$OUT/questions.html" ]; then
  questions="$OUT/questions.html: a few minutes of answers give better masks"
fi
cat <<TEXT

masks            $masks/label
overlays         $masks/overlay
table            $masks/cover.csv: how much of each photograph each class covers
report           $OUT/report.html
network          python $(printf %q "$OUT/home/predict.py") photo.jpg
questions        $questions
Look at the report first: photographs whose tags and masks disagree are often tagged wrongly.
Better masks     more photographs of the classes that look worst: add them to the folder, and run
                 this again; on a GPU, a larger network:
                 TRAIN="$larger" \\
                 OUT=$(printf %q "$OUT-large") $larger_again
how long         python -m script.plan $(printf %q "$DATASET") $larger
TEXT
