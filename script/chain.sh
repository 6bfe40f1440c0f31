# Sourced by the chains: defaults, and one function per step. DATASET, VOC, COCO, OUT, SEED and
# TRAIN (extra flags for every train.py) come from the environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${VIRTUAL_ENV:-}" ] && [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi
if ! python -c 'import torch, densecrf' 2>/dev/null; then
  echo "$0: no environment with torch and densecrf is active: bash script/quickstart.sh makes .venv" >&2
  exit 1
fi
DATASET=${DATASET:-scenes}
SEED=${SEED:-0}
case $DATASET in
  voc) ROOT=${VOC:-data/VOC2012} ;;
  coco) ROOT=${COCO:-data/COCO2014} ;;
  scenes) ROOT=${SCENES:-data/scenes} ;;
  *) ROOT= ;;
esac
data=(--dataset "$DATASET" ${ROOT:+--root "$ROOT"})
# Somebody's own folder may have no masks to compare with: its train images are segmented then.
split=val
if [ -d "$DATASET" ] && [ ! -e "$DATASET/ImageSets/Segmentation/val.txt" ]; then split=train; fi

# step TITLE: a line that says where the chain is.
step() { printf '\n== %s\n' "$*"; }

# look OUT CHECKPOINT: the end of a chain: where its pictures are, and the mIoU as the last line.
look() {
  local python=python
  if [ "${VIRTUAL_ENV:-}" = "$PWD/.venv" ]; then python=.venv/bin/python; fi
  printf '\nlook at         %s/val/overlay\n' "$1"
  if [ -e "$1/report.html" ]; then printf 'and at          %s/report.html\n' "$1"; fi
  printf 'own pictures    %s test.py %s --image photo.jpg --crf\n' "$python" "$2"
  if [ "$split" = val ]; then
    python -c 'import json, sys; print("miou %.2f" % json.load(open(sys.argv[1]))["miou"])' "$1/score.json"
  fi
}

# train STAGE FOLDER [flags]: all visible GPUs, or the CPU. Goes on where it stopped.
train() {
  local stage=$1 folder=$2; shift 2
  step "train $stage"
  local gpus
  gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
  local launch=(python)
  if [ "$gpus" -gt 1 ]; then launch=(torchrun --standalone --nproc-per-node "$gpus"); fi
  "${launch[@]}" train.py "$stage" "${data[@]}" --seed "$SEED" --out "$folder" ${TRAIN:-} "$@"
}

# predict CHECKPOINT FOLDER [flags]: images that are there already are skipped.
predict() {
  local checkpoint=$1 folder=$2; shift 2
  step "predict $folder"
  python test.py "$checkpoint" "${data[@]}" --split "$split" --out "$folder" "$@"
}

# evaluate FOLDER [flags]: the table, score.json and report.html.
evaluate() {
  local folder=$1; shift
  step "evaluate $folder"
  if [ "$split" != val ] && [[ "$*" != *--split* ]]; then
    echo "$DATASET has no val.txt, so nothing is compared with masks: look at $folder/overlay"
    return
  fi
  python evaluate.py "$folder" "${data[@]}" --report "$@"
}
