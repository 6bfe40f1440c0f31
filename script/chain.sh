# Sourced by the chains: defaults, and one function per step. DATASET, VOC, COCO, OUT, SEED and
# TRAIN (extra flags for every train.py) come from the environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${VIRTUAL_ENV:-}" ] && [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi
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

# train STAGE FOLDER [flags]: all visible GPUs, or the CPU. Goes on where it stopped.
train() {
  local stage=$1 folder=$2; shift 2
  local gpus
  gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
  local launch=(python)
  if [ "$gpus" -gt 1 ]; then launch=(torchrun --standalone --nproc-per-node "$gpus"); fi
  "${launch[@]}" train.py "$stage" "${data[@]}" --seed "$SEED" --out "$folder" ${TRAIN:-} "$@"
}

# predict CHECKPOINT FOLDER [flags]: images that are there already are skipped.
predict() {
  local checkpoint=$1 folder=$2; shift 2
  python test.py "$checkpoint" "${data[@]}" --split "$split" --out "$folder" "$@"
}

# evaluate FOLDER [flags]: the table, score.json and report.html.
evaluate() {
  local folder=$1; shift
  if [ "$split" != val ] && [[ "$*" != *--split* ]]; then
    echo "$DATASET has no val.txt, so nothing is compared with masks: look at $folder/overlay"
    return
  fi
  python evaluate.py "$folder" "${data[@]}" --report "$@"
}
