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
    flags = f"--dataset {mine} --split"
    predicted, evaluated = bash(code, DATASET=str(mine)).splitlines()
    assert predicted == f"test.py last.pt {flags} val --out out --crf"
    assert evaluated == f"evaluate.py out {flags} val --skip-without-masks --report"
    (mine / "ImageSets/Segmentation/val.txt").unlink()
    predicted, evaluated = bash(code, DATASET=str(mine)).splitlines()
    assert predicted == f"test.py last.pt {flags} train --out out --crf"
    assert evaluated == f"evaluate.py out {flags} train --skip-without-masks --report"


def test_processes_of_training_and_test():
    code = 'step() { :; }; python() { echo "$@"; }; train sec out --lr 1; predict last.pt out'
    alone, predicted = bash(code + "; exit", PROCESSES="1").splitlines()
    assert alone.startswith("train.py sec --dataset scenes") and "--processes 1" in predicted
    several, _ = bash(code, PROCESSES="3").splitlines()
    assert several.startswith("-m torch.distributed.run --standalone --nproc-per-node 3 train.py")


def test_missing_data_is_one_sentence_with_the_remedy(tmp_path):
    command = ["bash", "script/train.sh"]
    names = {"DATASET": "voc", "VOC": str(tmp_path / "nowhere"), "OUT": str(tmp_path / "out")}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **names}
    )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "set VOC=" in done.stderr and "datalist.fetch voc" in done.stderr
    assert not (tmp_path / "out").exists()
