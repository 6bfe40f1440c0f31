# Sourced by the chains: the data set, and one function per step. From the environment:
#   DATASET=scenes|voc|coco|FOLDER  (default scenes; FOLDER is in VOC layout)
#   VOC, COCO, SCENES  folders of these data sets (default data/VOC2012, data/COCO2014, data/scenes)
#   OUT                folder of the run: networks, masks, predictions and scores lie below it
#   SEED=0             seed of every training
#   TRAIN              flags of every train.py, such as "--keep-every 1000" or "--recipe smoke"
#   FRESH=1            where flags, tags or other inputs changed since the last time: keep the old
#                      files in old-1 and compute them again; what did not change is used again
#   ANSWERS=FILE       answers.csv of the page OUT/questions.html of an earlier run (photographs)
#   PROCESSES=0        processes that train and predict; 0: one for each GPU, without a GPU one
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/help.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${VIRTUAL_ENV:-}" ] && [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi
if [ -n "${WARM:-}" ]; then
  gpus=0 # the chain around this one has looked
elif ! installed torch densecrf; then
  echo "$0: this Python lacks torch or densecrf: run 'bash script/setup.sh', which installs them" >&2
  exit 1
elif [ "$(uname)" = Linux ] && ! compgen -G '/dev/nvidia[0-9]*' >/dev/null && [ ! -e /dev/kfd ] && [ ! -e /dev/dxg ]; then
  gpus=0 # no device of CUDA, ROCm or WSL
else
  gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
fi
# Each import of torch and timm costs seconds of a processor, and a chain starts a dozen programs: on
# a machine without GPU they start as forks of one process, which ends with the chain.
if [ -z "${WARM:-}" ] && [ "$gpus" = 0 ] && [ "${PROCESSES:-0}" -le 1 ] && [ "$(uname)" = Linux ]; then
  WARM=$(mktemp -d) && export WARM
  modules=(torch torch._dynamo densecrf tensorboardX tyro)
  if [ -d "${DATASET:-}" ]; then modules+=(timm); fi
  exec 8> >(OPENBLAS_NUM_THREADS=1 exec python script/warm.py serve "$WARM/socket" "${modules[@]}")
fi

# python WORDS: a fork of it, where it runs.
python() {
  case "${WARM:-} $*" in
    " "* | *" -c "* | *" torch.distributed.run "* | *" --processes "*) command python "$@"; return ;;
  esac
  command python -SE script/warm.py run "$WARM/socket" "$@"
}
SEED=${SEED:-0}
fresh=(${FRESH:+--fresh})

# use_data: read DATASET, VOC, COCO and SCENES; sets the flags `data`, the `split` of the test and
# `shown`, the folder of its predictions. With DATA_LATER and no DATASET, test.py and evaluate.py
# take the data set of the checkpoint or of the predictions.
use_data() {
  local root= name=
  DATASET=${DATASET:-scenes}
  case $DATASET in
    voc) root=${VOC:-data/VOC2012} name=VOC ;;
    coco) root=${COCO:-data/COCO2014} name=COCO ;;
    scenes) root=${SCENES:-data/scenes} ;;
  esac
  if [ -n "$name" ] && [ ! -d "$root" ]; then
    echo "$0: no folder $root: set $name=FOLDER, or run 'python -m datalist.prepare.fetch $DATASET --root $(printf %q "$root")'" >&2
    exit 1
  fi
  data=(--dataset "$DATASET" ${root:+--root "$root"})
  # A folder may have no list of test images: its training images are segmented then.
  split=val shown=val
  if [ -d "$DATASET" ] && [ ! -e "$DATASET/ImageSets/Segmentation/val.txt" ]; then
    split=train shown=train-images
  fi
}

# again: the command of this run, for pages that say what to do next.
again() {
  printf '%s' "${AGAIN:-DATASET=$(printf %q "$DATASET") OUT=$(printf %q "$OUT") bash script/$(basename "$0")}"
}

# step TITLE: a line that says where the chain is.
step() { printf '\n== %s\n' "$*"; }

# train STAGE FOLDER [flags]: on PROCESSES processes. Continues where it stopped.
train() {
  local stage=$1 folder=$2 count=${PROCESSES:-0}; shift 2
  step "train $stage"
  if [ "$count" = 0 ]; then count=$gpus; fi
  local launch=(python)
  if [ "$count" -gt 1 ]; then
    launch=(python -m torch.distributed.run --standalone --nproc-per-node "$count")
  fi
  "${launch[@]}" train.py "$stage" "${data[@]}" --seed "$SEED" --out "$folder" "${fresh[@]}" ${TRAIN:-} "$@"
}

# predict CHECKPOINT FOLDER [flags]: skips images whose files are there already.
predict() {
  local checkpoint=$1 folder=$2; shift 2
  step "predict $folder"
  python test.py "$checkpoint" "${data[@]}" --split "$split" --out "$folder" "${fresh[@]}" \
    ${PROCESSES:+--processes "$PROCESSES"} "$@"
}

# evaluate FOLDER [flags]: the table, score.json and report.html, of the images that have a true
# mask; one sentence says how many have none.
evaluate() {
  local folder=$1; shift
  step "evaluate $folder"
  python evaluate.py "$folder" "${data[@]}" --split "$split" --skip-without-masks --report \
    --again "${ANSWERS:+ANSWERS=$(printf %q "$ANSWERS") }$(again)" "$@"
}

# finish RUN: the end of a chain: predictions of the network in RUN, their table and report, where to
# look, and the mIoU as the last line. TEST are flags of test.py. With TAKE_HOME the network is
# exported to this folder, on one processor beside the others.
finish() {
  local python=python export= code=0
  if [ "${VIRTUAL_ENV:-}" = "$PWD/.venv" ]; then python=.venv/bin/python; fi
  if [ -n "${TAKE_HOME:-}" ] && [ ! "$TAKE_HOME/predict.py" -nt "$1/last.pt" ]; then
    python export.py "$1/last.pt" --out "$TAKE_HOME" >"$OUT/export.log" 2>&1 &
    export=$!
  fi
  predict "$1/last.pt" "$OUT/$shown" --save label overlay cover --crf ${TEST:-}
  evaluate "$OUT/$shown" --out "$OUT" --run "$1"
  if [ -n "$export" ]; then
    step "export"
    wait "$export" || code=$?
    if [ "$code" != 0 ]; then
      cat "$OUT/export.log" >&2
      exit "$code"
    fi
    cat "$OUT/export.log"
    rm "$OUT/export.log"
  fi
  printf '\nlook at         %s\n' "$OUT/$shown/overlay"
  if [ -e "$OUT/report.html" ]; then printf 'and at          %s\n' "$OUT/report.html"; fi
  printf 'own pictures    %s test.py %q --image photo.jpg --crf\n' "$python" "$1/last.pt"
  if [ -e "$OUT/score.json" ]; then
    python -c 'import json, sys; print("miou %.2f" % json.load(open(sys.argv[1]))["miou"])' "$OUT/score.json"
  fi
}

# score_masks FOLDER [flags]: the same for masks of the training images.
score_masks() {
  local folder=$1; shift
  evaluate "$folder" --split train "$@"
}

# on_photos: whether the recipes are those for photographs, whose cues are sure masks.
on_photos() { [ "$(python -m method.choose "$DATASET" ${TRAIN:-})" = photo ]; }

# make_sure FOLDER: class activation maps of the training images and sure masks of them,
# FOLDER/sure/label, in which unsure pixels are 255. Of photographs, questions about the maps, whose
# answers (ANSWERS) a later run uses.
make_sure() {
  train cam "$1/cam" ${CAM:-}
  predict "$1/cam/last.pt" "$1/seed" --split train --save score --restrict-to-tags
  score_masks "$1/seed" --kind score --sweep
  step "masks $1/sure"
  python pseudo.py "$1/seed" "${data[@]}" "${fresh[@]}" --out "$1/sure" --purpose sure \
    ${ANSWERS:+--answers "$ANSWERS"} ${PSEUDO:-}
  if on_photos; then
    step "questions"
    python -m script.questions "$1/cam/last.pt" "$1/seed" "${data[@]}" --masks "$1/sure" \
      --page "$OUT/questions.html" --command "FRESH=1 ANSWERS={} $(again)"
  fi
  rm -rf "$1/cam/features" # a cache of what the classifier has seen
}

# use_shape MASKS: set `shape` to shape.json beside the folder MASKS, which pseudo.py writes where it
# used contrast, and `fine` to --fine where a class is thin; FINE=--fine or FINE= decides instead.
# Where contrast was used, ImageNet features do not separate the objects well: `learn` is the flag
# with which all layers of SEC's trunk learn.
use_shape() {
  shape=$(dirname "$1")/shape.json fine=${FINE:-} learn=
  if [ ! -e "$shape" ]; then
    shape=
  elif on_photos; then
    learn="--frozen-stride 0"
    if [ -z "${FINE+set}" ]; then fine=$(python -m datalist.shape "$shape"); fi
  fi
}

# make_cue FOLDER: set CUE to the cues to learn from. Without CUE the cue networks are trained in
# FOLDER. With SALIENCY the background cues are where these maps are low.
make_cue() {
  if [ -n "${ANSWERS:-}" ] && { [ -n "${CUE:-}${SALIENCY:-}" ] || ! on_photos; }; then
    echo "$0: ANSWERS are about the maps of photographs: leave ANSWERS, or CUE and SALIENCY, away" >&2
    exit 1
  fi
  if [ -z "${CUE:-}" ] && [ -z "${SALIENCY:-}" ] && on_photos; then
    make_sure "$1"
    CUE="$1/sure/label"
  elif [ -z "${CUE:-}" ]; then
    OUT="$1" bash script/cue.sh
    CUE="$1/cue.npz"
  elif [ -n "${SALIENCY:-}" ]; then
    step "cues $1"
    python -m datalist.saliency "$CUE" "$SALIENCY" "$1/cue.npz"
    CUE="$1/cue.npz"
  fi
}

data=() split=${SPLIT:-val}
if [ -z "${DATA_LATER:-}" ] || [ -n "${DATASET:-}" ]; then use_data; fi
