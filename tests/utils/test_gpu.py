"""On a CUDA device: the fast step learns what the plain one learns, and resumes."""

import json

import pytest
import tiny
import torch
from recipes import change
from tiny import TINY

from utils import checkpoint
from utils.flags import Train
from utils.loop import Interrupted, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")


def losses(folder) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_cuda_has_the_losses_of_the_cpu(tmp_path):
    for device in ("cpu", "cuda"):
        tiny.run_in(tmp_path / device, device=device, log_every=1)
    assert losses(tmp_path / "cuda") == pytest.approx(losses(tmp_path / "cpu"), rel=1e-3)


def test_bfloat16_ends_near_float32(tmp_path):
    for precision in ("float32", "bfloat16"):
        tiny.run_in(tmp_path / precision, device="cuda", precision=precision, log_every=1)
    ends = losses(tmp_path / "float32"), losses(tmp_path / "bfloat16")
    assert ends[1] == pytest.approx(ends[0], rel=0.03)


def test_stopped_run_goes_on_with_the_same_dropout(tmp_path):
    class Stopped(tiny.Tiny):
        def losses(self, batch, context):
            if context.step == 5:
                raise Interrupted(15)
            return super().losses(batch, context)

    recipe = change(TINY, dropout=0.5)
    tiny.run_in(tmp_path / "whole", recipe, device="cuda")
    run = Train(tmp_path / "halves", device="cuda", quiet=True, picture_every=0, save_every=0.0)
    with pytest.raises(Interrupted):
        train(Stopped(recipe), "tiny", run)
    tiny.run_in(tmp_path / "halves", recipe, device="cuda")
    whole, halves = (
        checkpoint.load(tmp_path / name / "last.pt")["network"] for name in ("whole", "halves")
    )
    for key, value in whole.items():
        torch.testing.assert_close(halves[key], value, rtol=1e-4, atol=1e-5)
