"""The functions that the chains are made of."""

import json
import shutil
import sys

import pytest
from program import execute


def bash(code, **environment):
    return execute(["bash", "-c", f". script/chain.sh; {code}"], **environment).stdout


def test_folder_without_masks_has_its_own_images_segmented(four_root, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(four_root, mine)
    code = 'step() { :; }; python() { echo "$@"; }; predict last.pt out --crf; evaluate out'
    for split in ("val", "train"):
        predicted, evaluated = bash(code, DATASET=str(mine)).splitlines()
        flags = f"--dataset {mine} --split {split}"
        assert predicted == f"test.py last.pt {flags} --out out --crf"
        start = f"evaluate.py out {flags} --skip-without-masks --report --again "
        assert evaluated.startswith(start)
        (mine / "ImageSets/Segmentation/val.txt").unlink(missing_ok=True)


def test_networks_follow_the_shapes_of_the_masks(four_root, tmp_path):
    show = 'use_shape "$MASKS"; echo "${shape##*/} $fine $learn."'
    given = {"DATASET": str(four_root), "MASKS": str(tmp_path / "label")}
    assert bash(show, **given) == "  .\n"
    for thickness, fine in ((0.05, "--fine"), (0.2, "")):
        row = {"share": 0.1, "thickness": thickness}
        (tmp_path / "shape.json").write_text(json.dumps({"cat": row}))
        assert bash(show, **given) == f"shape.json {fine} --frozen-stride 0.\n"
    assert bash(show, **given, FINE="--fine") == "shape.json --fine --frozen-stride 0.\n"
    assert bash(show, **given, TRAIN="--recipe small") == "shape.json  .\n"


def test_processes_of_training_and_test():
    code = 'step() { :; }; python() { echo "$@"; }; train sec out --lr 1; predict last.pt out'
    alone, predicted = bash(code + "; exit", PROCESSES="1").splitlines()
    assert alone.startswith("train.py sec --dataset scenes") and "--processes 1" in predicted
    several, _ = bash(code, PROCESSES="3").splitlines()
    assert several.startswith("-m torch.distributed.run --standalone --nproc-per-node 3 train.py")


def test_missing_data_is_one_sentence_with_the_remedy(tmp_path):
    names = {"DATASET": "voc", "VOC": str(tmp_path / "nowhere"), "OUT": str(tmp_path / "out")}
    done = execute(["bash", "script/train.sh"], code=1, **names)
    assert len(done.stderr.splitlines()) == 1
    assert "set VOC=" in done.stderr and "datalist.prepare.fetch voc" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["photos", "quickstart"])
def test_help_of_the_first_commands(name):
    done = execute(["bash", f"script/{name}.sh", "--help"])
    assert done.stdout.startswith("From a") and "OUT=out/" in done.stdout


def test_help_installs_nothing_and_times_nothing():
    assert execute(["bash", "script/setup.sh", "--help"]).stdout.startswith("Set up: a .venv")
    assert execute(["bash", "script/run_tests.sh", "--help"]).stdout.startswith("Set up and run")
    done = execute([sys.executable, "-m", "script.plan", "--help"])
    assert "Say how long" in done.stdout and not done.stderr


def test_help_of_a_chain_is_the_comment_at_its_top():
    done = execute(["bash", "script/sec.sh", "--help"])
    assert done.stdout.startswith("SEC from tags to an mIoU table") and "CUE=FILE" in done.stdout
    assert "chain.sh" not in done.stdout
