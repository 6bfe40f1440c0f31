"""The functions that the chains are made of."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def bash(code, **environment):
    done = subprocess.run(
        ["bash", "-c", f". script/chain.sh; {code}"],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_folder_without_masks_has_its_own_images_segmented(four_root, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(four_root, mine)
    code = 'step() { :; }; python() { echo "$@"; }; predict last.pt out --crf; evaluate out'
    predicted, evaluated = bash(code, DATASET=str(mine)).splitlines()
    assert predicted == f"test.py last.pt --dataset {mine} --split val --out out --crf"
    assert evaluated == f"evaluate.py out --dataset {mine} --report"
    (mine / "ImageSets/Segmentation/val.txt").unlink()
    predicted, evaluated = bash(code, DATASET=str(mine)).splitlines()
    assert predicted == f"test.py last.pt --dataset {mine} --split train --out out --crf"
    assert evaluated.startswith(f"{mine} has no val.txt") and evaluated.endswith("out/overlay")
    asked = bash(code + " --split train", DATASET=str(mine)).splitlines()[1]
    assert asked == f"evaluate.py out --dataset {mine} --report --split train"
