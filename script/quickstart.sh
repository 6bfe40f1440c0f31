#!/usr/bin/env bash
# From a clean clone to an mIoU table and pictures: set-up, then SEC on the embedded data set.
set -euo pipefail
. "$(dirname "$0")/setup.sh"
export DATASET=scenes OUT=${OUT:-out/quickstart}
bash script/sec.sh
