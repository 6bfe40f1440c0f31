#!/usr/bin/env bash
# Pseudo masks of the training images from CAM, SEAM and one to three passes of the segmenter, over
# seeds; the retrained network; and the classes near to and far from the external ones.
#   SEEDS="0 1 2"  OUT=out/locate-ablation  DATASET=scenes  EXTERNAL=FOLDER (as in locate.sh)
. "$(dirname "$0")/chain.sh"
OUT=${OUT:-out/locate-ablation}
TRAIN="${TRAIN:-} --quiet"
export TRAIN DATASET
for SEED in ${SEEDS:-0 1 2}; do
  run="$OUT/seed$SEED"
  OUT="$run" SEED=$SEED PASSES=1 bash script/locate.sh
  train seam "$run/cam" --no-equivariance
  for step in cam seam; do
    predict "$run/$step/last.pt" "$run/$step" --split train --save score --quiet
    evaluate "$run/$step" --split train --kind score --restrict-to-tags --quiet
  done
  evaluate "$run/pseudo" --split train --quiet
  for pass in 2 3; do
    train resegment "$run/pass$pass" --start "$run/seam/last.pt" --passes $pass \
      --segmenter "${SEGMENTER:-$run/segmenter/last.pt}"
    predict "$run/pass$pass/last.pt" "$run/pass$pass" --split train --restrict-to-tags --quiet
    evaluate "$run/pass$pass" --split train --quiet
  done
  python script/locate_figure.py "$run" "${data[@]}" --out "$run/locate.png"
done
python - "$OUT" "$DATASET" <<'PYTHON'
import json, statistics, sys
from pathlib import Path

import numpy as np

from datalist.scenes import WORLD

rows = {"CAM": "cam", "SEAM": "seam", "pass 1": "pseudo", "pass 2": "pass2", "pass 3": "pass3"}
runs = sorted(Path(sys.argv[1]).glob("seed*"))


def read(place):
    return [json.loads((run / place / "score.json").read_text()) for run in runs]


print(f"| pseudo masks, mIoU on train, {len(runs)} seeds | mean | each |\n|---|---|---|")
for title, place in [*rows.items(), ("retrained, val", "")]:
    found = [score["miou"] for score in read(place)]
    each = ", ".join(f"{value:.1f}" for value in found)
    print(f"| {title} | {statistics.mean(found):.1f} | {each} |")

if sys.argv[2] == "scenes":
    v, u = np.mgrid[-1.25:1.25:200j, -1.25:1.25:200j]
    shapes = {w: {k.shape.__name__: k.shape(u, v) > 0 for k in WORLD[w]} for w in WORLD}
    near = {
        name: max((one & other).sum() / (one | other).sum() for other in shapes["external"].values())
        for name, one in shapes["target"].items()
    }
    order = sorted(near, key=near.get, reverse=True)
    head = " | ".join(f"{name} ({near[name]:.2f})" for name in order)
    print(f"\n| IoU of classes by shape (IoU with the nearest external shape) | {head} |")
    print("|---" * (len(order) + 1) + "|")
    for title, place in rows.items():
        means = []
        for name in order:
            kinds = [kind.name for kind in WORLD["target"] if kind.shape.__name__ == name]
            means.append(statistics.mean(s["iou"][kind] for s in read(place) for kind in kinds))
        print(f"| {title} | " + " | ".join(f"{value:.1f}" for value in means) + " |")
PYTHON
