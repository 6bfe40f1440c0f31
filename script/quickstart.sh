#!/usr/bin/env bash
# From a clean clone to an mIoU table and pictures: set-up, then SEC on the embedded data set.
#   OUT=out/quickstart  folder of the results; flags of the environment as in script/sec.sh
set -euo pipefail
. "$(dirname "$0")/help.sh"
export DATASET=scenes OUT=${OUT:-out/quickstart}
cat <<TEXT
quickstart: 1. installs the requirements into .venv, unless an environment is active (minutes, once)
            2. draws the data set 'scenes' and trains SEC on it: three small networks
            3. predicts the test images and prints the table of mIoU
On two cores, steps 2 and 3 take 5 to 8 minutes. The results go to $OUT.
TEXT
. "$(dirname "$0")/setup.sh"
bash script/sec.sh
