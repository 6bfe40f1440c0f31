#!/usr/bin/env bash
# RecurSeed and EdgePredictMix on `scenes`, over seeds: what each way of mixing adds, what the
# recursion adds, masks by the CRF and by the random walk, single and last stage.
#   SEEDS="0 1 2"  MIXES="edge certain classmix cutmix none"  OUT=out/rsepm-ablation  DATASET=scenes
#   RSEPM=FLAGS (of train.py rsepm)  TRAIN=FLAGS (of the other stages)
. "$(dirname "$0")/seeds.sh"
export CUE=none RSEPM=${RSEPM:-}  # the method as published, on photographs too

# recursion FOLDER [flags]: trains, and measures the maps once an epoch of `scenes`.
recursion() {
  local folder=$1; shift
  python train.py rsepm "${data[@]}" $RSEPM --seed "$SEED" "$@" --out "$folder" --quiet --keep-every 75
  python -m script.study.recursion "$folder"
}

for SEED in $SEEDS; do
  run="$OUT/seed$SEED"
  for mix in ${MIXES:-edge certain classmix cutmix none}; do
    recursion "$run/$mix/train" --mix "$mix"
    measure "$run/$mix/train/last.pt" "$run/$mix/single" --crf
  done
  # No losses on the refined maps: what the classifier's maps reach by themselves.
  recursion "$run/no-recursion/train" --recursion-weight 0 --mix none
  [ -f "$run/edge/train/last.pt" ] || continue
  # Masks by the random walk and the CRF, and by the CRF alone, of the same seeds.
  mkdir -p "$run/chain" "$run/crf"
  ln -sfn ../edge/train "$run/chain/train"
  AFFINITY=1 chain rsepm "$run/chain"
  ln -sfn ../edge/train "$run/crf/train"
  ln -sfn ../chain/seed "$run/crf/seed"
  AFFINITY=0 chain rsepm "$run/crf"
done
rows=()
for mix in none cutmix classmix certain edge; do
  rows+=("single stage, mix $mix (val)=$mix/single")
done
table "CAM, no recursion (train, best threshold)=no-recursion/train/watch.json#cam" \
  "CAM (train, best threshold)=edge/train/watch.json#cam" \
  "refined maps (train, best threshold)=edge/train/watch.json#refined" \
  "seeds (train, best threshold)=chain/seed" "masks by CRF (train)=crf/pseudo" \
  "masks by random walk and CRF (train)=chain/pseudo" "${rows[@]}" \
  "last stage on masks by CRF (val)=crf" "last stage on masks by random walk and CRF (val)=chain"
