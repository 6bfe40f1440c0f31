#!/usr/bin/env bash
# Time script/photos.sh of an earlier commit and of this one on the same photographs, side by side:
# wall and processor seconds, peak memory, and the mIoU of the masks. Both use the Python at hand.
#   bash benchmark/photos.sh FOLDER [OUT, default out/benchmark]
#   FOLDER     data set in VOC layout with masks; its training images become class folders
#   COUNT=0    about so many of them; 0: all
#   RUNS=3     runs of each, taken in turns; medians are printed
#   OLD=a82b8c0, NEW=HEAD   commits; NEW alone is run where OLD is empty
set -euo pipefail
. "$(dirname "$0")/../script/help.sh"
if [ $# -eq 0 ] || [ ! -d "$1" ]; then
  echo "photos.sh: give a folder of images with masks: bash benchmark/photos.sh FOLDER" >&2
  exit 2
fi
folder=$(cd "$1" && pwd)
mkdir -p "${2:-$(dirname "$0")/../out/benchmark}"
out=$(cd "${2:-$(dirname "$0")/../out/benchmark}" && pwd)
cd "$(dirname "$0")/.."
if [ -z "${VIRTUAL_ENV:-}" ] && [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi
trees=()
for name in OLD=${OLD-a82b8c0} NEW=${NEW:-HEAD}; do
  commit=${name#*=} tree=$out/tree-${name%%=*}
  if [ -z "$commit" ]; then continue; fi
  rm -rf "$tree"
  git clone -q --no-checkout . "$tree"
  git -C "$tree" checkout -q --detach "$(git rev-parse "$commit")"
  trees+=("$(git rev-parse --short "$commit")=$tree")
done
python -m benchmark.photos "$folder" "${trees[@]}" --out "$out" --runs "${RUNS:-3}" --count "${COUNT:-0}"
