#!/usr/bin/env bash
# RecurSeed and EdgePredictMix on `scenes`, over seeds: what each way of mixing adds, what the
# recursion adds, masks by the CRF and by the random walk, single and last stage.
#   SEEDS="0 1 2"  MIXES="edge certain classmix cutmix none"  OUT=out/rsepm_ablation  DATASET=scenes
#   RSEPM=FLAGS (of train.py rsepm)  TRAIN=FLAGS (of the other stages)
. "$(dirname "$0")/../chain.sh"
OUT=${OUT:-out/rsepm_ablation}
SEEDS=${SEEDS:-0 1 2}
MIXES=${MIXES:-edge certain classmix cutmix none}
export CUE=none  # the method as published, on photographs too
for SEED in $SEEDS; do
  for mix in $MIXES; do
    run="$OUT/seed$SEED/$mix"
    # Trains what `train.py rsepm` trains, and measures its maps once an epoch.
    python -m script.study.recursion "${data[@]}" ${RSEPM:-} --seed "$SEED" --mix "$mix" \
      --out "$run/train" --quiet
    predict "$run/train/last.pt" "$run/single" --crf --quiet
    evaluate "$run/single" --quiet
  done
  # No losses on the refined maps: what the classifier's maps reach by themselves.
  plain=(--recursion-weight 0 --mix none)
  python -m script.study.recursion "${data[@]}" ${RSEPM:-} --seed "$SEED" "${plain[@]}" --quiet \
    --out "$OUT/seed$SEED/no-recursion/train"
  run="$OUT/seed$SEED"
  [ -f "$run/edge/train/last.pt" ] || continue
  # Masks by the random walk and the CRF, and by the CRF alone, of the same seeds.
  mkdir -p "$run/chain" "$run/crf"
  ln -sfn ../edge/train "$run/chain/train"
  OUT="$run/chain" SEED=$SEED RSEPM="${RSEPM:-}" TRAIN="${TRAIN:-} --quiet" AFFINITY=1 bash script/rsepm.sh
  ln -sfn ../edge/train "$run/crf/train"
  ln -sfn ../chain/seed "$run/crf/seed"
  OUT="$run/crf" SEED=$SEED RSEPM="${RSEPM:-}" TRAIN="${TRAIN:-} --quiet" AFFINITY=0 bash script/rsepm.sh
done
runs=()
for SEED in $SEEDS; do runs+=("$OUT/seed$SEED/edge/train"); done
python -m script.study.recursion_figure "$OUT/recursion.png" "${runs[@]}"
rows=()
for mix in none cutmix classmix certain edge; do
  rows+=("single stage, mix $mix (val)=$mix/single")
done
python -m script.study.table "$OUT" \
  "CAM, no recursion (train, best threshold)=no-recursion/train/watch.json#cam" \
  "CAM (train, best threshold)=edge/train/watch.json#cam" \
  "refined maps (train, best threshold)=edge/train/watch.json#refined" \
  "seeds (train, best threshold)=chain/seed" "masks by CRF (train)=crf/pseudo" \
  "masks by random walk and CRF (train)=chain/pseudo" "${rows[@]}" \
  "last stage on masks by CRF (val)=crf" "last stage on masks by random walk and CRF (val)=chain"
