# Sourced by the ablations: chain.sh, and what they do for each seed. From the environment:
#   SEEDS="0 1 2"  OUT=out/NAME-OF-THE-SCRIPT  DATASET=scenes  TRAIN=FLAGS (of every train.py)
. "$(dirname "$0")/../chain.sh"
name=$(basename "$0" .sh)
OUT=${OUT:-out/${name//_/-}}
SEEDS=${SEEDS:-0 1 2}
TRAIN="${TRAIN:-} --quiet"
export TRAIN DATASET

# chain NAME FOLDER: a chain of this seed.
chain() { OUT="$2" SEED=$SEED bash "script/$1.sh"; }

# measure CHECKPOINT FOLDER [flags]: test.py and evaluate.py with the dense CRF or other flags.
measure() {
  predict "$@" --quiet
  evaluate "$2" --quiet
}

# table [flags] "TITLE=FILE" ...: means over the seeds.
table() { python -m script.study.table "$OUT" "$@"; }
