#!/usr/bin/env bash
# RecurSeed and EdgePredictMix on `scenes`, over seeds: what each way of mixing adds, what the
# recursion adds, masks by the CRF and by the random walk, single and last stage.
#   SEEDS="0 1 2"  MIXES="edge certain classmix cutmix none"  OUT=out/rsepm_ablation  DATASET=scenes
#   RSEPM=FLAGS (of train.py rsepm)  TRAIN=FLAGS (of the other stages)
. "$(dirname "$0")/chain.sh"
OUT=${OUT:-out/rsepm_ablation}
SEEDS=${SEEDS:-0 1 2}
MIXES=${MIXES:-edge certain classmix cutmix none}
for SEED in $SEEDS; do
  for mix in $MIXES; do
    run="$OUT/seed$SEED/$mix"
    # Trains what `train.py rsepm` trains, and measures its maps once an epoch.
    python script/recursion.py "${data[@]}" ${RSEPM:-} --seed "$SEED" --mix "$mix" --out "$run/train" --quiet
    predict "$run/train/last.pt" "$run/single" --scales 1 0.75 1.25 --mirror --crf --quiet
    evaluate "$run/single" --quiet
  done
  # No losses on the refined maps: what the classifier's maps reach by themselves.
  plain=(--recursion-weight 0 --mix none)
  python script/recursion.py "${data[@]}" ${RSEPM:-} --seed "$SEED" "${plain[@]}" --quiet \
    --out "$OUT/seed$SEED/no-recursion/train"
  run="$OUT/seed$SEED"
  [ -f "$run/edge/train/last.pt" ] || continue
  # Masks by the random walk and the CRF, and by the CRF alone, of the same seeds.
  mkdir -p "$run/chain" "$run/crf"
  ln -sfn ../edge/train "$run/chain/train"
  OUT="$run/chain" SEED=$SEED RSEPM="${RSEPM:-} --quiet" AFFINITY=1 bash script/rsepm.sh
  ln -sfn ../edge/train "$run/crf/train"
  ln -sfn ../chain/seed "$run/crf/seed"
  OUT="$run/crf" SEED=$SEED RSEPM="${RSEPM:-} --quiet" AFFINITY=0 bash script/rsepm.sh
done
runs=()
for SEED in $SEEDS; do runs+=("$OUT/seed$SEED/edge/train"); done
python script/recursion.py "${runs[@]}" --figure "$OUT/recursion.png"
python - "$OUT" <<'PYTHON'
import json, statistics, sys
from pathlib import Path

runs = sorted(Path(sys.argv[1]).glob("seed*"))


def score(run, place):
    path = run / place / "score.json"
    return json.loads(path.read_text())["miou"] if path.is_file() else None


def watched(run, place, name):
    files = sorted((run / place / "train/watch").glob("*.json"))
    return json.loads(files[-1].read_text())[name]["miou"] if files else None


rows = {
    "CAM, no recursion (train, best threshold)": lambda r: watched(r, "no-recursion", "cam"),
    "CAM (train, best threshold)": lambda r: watched(r, "edge", "cam"),
    "refined maps (train, best threshold)": lambda r: watched(r, "edge", "refined"),
    "seeds (train, best threshold)": lambda r: score(r, "chain/seed"),
    "masks by CRF (train)": lambda r: score(r, "crf/pseudo"),
    "masks by random walk and CRF (train)": lambda r: score(r, "chain/pseudo"),
}
for mix in ("none", "cutmix", "classmix", "certain", "edge"):
    rows[f"single stage, mix {mix} (val)"] = lambda r, mix=mix: score(r, f"{mix}/single")
rows["last stage on masks by CRF (val)"] = lambda r: score(r, "crf")
rows["last stage on masks by random walk and CRF (val)"] = lambda r: score(r, "chain")
print(f"| mIoU, {len(runs)} seeds | mean | spread |\n|---|---|---|")
for title, read in rows.items():
    found = [value for value in map(read, runs) if value is not None]
    if found:
        print(f"| {title} | {statistics.mean(found):.1f} | {min(found):.1f} to {max(found):.1f} |")
PYTHON
