"""The loop: exact resume, signals, losses that are not finite, order of the images."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import tiny
import torch
from recipes import change
from tiny import TINY, Tiny, run_in

from base import UserError
from utils import checkpoint
from utils.distributed import World
from utils.draws import Draws
from utils.flags import Train
from utils.loop import Interrupted, seed_everything, train


def weights(folder: Path) -> dict[str, torch.Tensor]:
    content = checkpoint.load(folder / "last.pt")
    assert content["step"] == content["recipe"]["solver"]["steps"]
    return content["network"]


def logged(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_every_image_comes_once_an_epoch():
    draws = list(Draws(10, 4, 0, 5, seed=3))
    order = [index for batch in draws for index, _ in batch]
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
    assert order[:10] != order[10:]
    assert [draw for batch in draws for _, draw in batch] == list(range(20))


def test_order_does_not_depend_on_where_a_run_began():
    assert list(Draws(10, 4, 0, 9, seed=3))[6:] == list(Draws(10, 4, 6, 9, seed=3))


def test_shares_of_the_processes_make_up_the_batch():
    whole = list(Draws(10, 4, 0, 5, seed=3))
    parts = [list(Draws(10, 4, 0, 5, seed=3, share=slice(k, k + 2))) for k in (0, 2)]
    assert [a + b for a, b in zip(*parts)] == whole


def test_seeding_covers_each_generator_and_tells_steps_apart():
    import random

    import numpy as np

    def drawn(*numbers):
        seed_everything(*numbers)
        return torch.rand(2).tolist(), np.random.rand(), random.random()

    assert drawn(0, 5, 0) == drawn(0, 5, 0)
    seen = [drawn(*numbers) for numbers in ((0, 5, 0), (5, 0, 0), (0, 6, 0), (0, 5, 1))]
    for kind in range(3):
        assert len({str(values[kind]) for values in seen}) == 4


def test_killed_at_random_moments_ends_with_the_same_bits(tmp_path):
    command = [sys.executable, tiny.__file__, str(tmp_path), "20"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[-1]) >= 10, result.stdout
    assert same_bits(weights(tmp_path / "peace"), weights(tmp_path / "fire"))
    peace, fire = (tmp_path / name / "log.jsonl" for name in ("peace", "fire"))
    assert peace.read_text() == fire.read_text()
    assert not list((tmp_path / "fire").glob(".last.pt-*"))


@pytest.mark.parametrize("policy", ["step", "poly", "cosine"])
def test_no_steps_keep_the_stage_as_it_started(tmp_path, policy):
    recipe = change(TINY, steps=0, policy=policy)
    stage = Tiny(recipe)
    start = {key: value.clone() for key, value in stage.network.state_dict().items()}
    run = Train(tmp_path, device="cpu", quiet=True)
    assert train(stage, "tiny", run)
    assert same_bits(weights(tmp_path), start)
    assert not train(Tiny(recipe), "tiny", run)


def test_sigterm_writes_a_checkpoint_first(tmp_path):
    class Stopped(Tiny):
        def losses(self, batch, context):
            if context.step == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().losses(batch, context)

    before = signal.getsignal(signal.SIGTERM)
    run = Train(tmp_path, device="cpu", quiet=True, picture_every=0, save_every=1e9)
    with pytest.raises(Interrupted):
        train(Stopped(TINY), "tiny", run)
    assert signal.getsignal(signal.SIGTERM) is before
    assert checkpoint.load(tmp_path / "last.pt")["step"] == 5


def test_finished_run_is_left_alone(tmp_path):
    run = run_in(tmp_path)
    stamp = (tmp_path / "last.pt").stat().st_mtime_ns
    assert train(Tiny(), "tiny", run) is False
    assert (tmp_path / "last.pt").stat().st_mtime_ns == stamp


def test_loss_that_is_not_finite_names_step_term_and_images(tmp_path):
    with pytest.raises(UserError) as failure:
        run_in(tmp_path, change(TINY, poison=3))
    ids = [f"noise{index}" for index, _ in list(Draws(10, 4, 0, 4, TINY.solver.seed))[3]]
    message = str(failure.value)
    assert "step 3" in message and "image = nan" in message and ", ".join(ids) in message
    assert checkpoint.load(tmp_path / "last.pt")["step"] == 3


def test_another_recipe_stage_or_class_list_is_refused(tmp_path):
    run, others = run_in(tmp_path), Tiny()
    others.spec = replace(others.spec, classes=("background", "dog", "cat"))
    for stage, name, refusal in (
        (Tiny(change(TINY, lr=0.1)), "tiny", r"lr: 0\.05 -> 0\.1"),
        (Tiny(), "other", "is a run of tiny, not of other"), (others, "tiny", "other classes"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=refusal):
            train(stage, name, run)


def test_log_lines_are_means_over_the_steps_between(tmp_path):
    run_in(tmp_path / "all", log_every=1)
    run_in(tmp_path / "some", log_every=5)
    every, some = logged(tmp_path / "all"), logged(tmp_path / "some")
    assert [line["step"] for line in some] == [5, 10, 12]
    mean = sum(line["pixel"] for line in every[5:10]) / 5
    assert some[1]["pixel"] == pytest.approx(mean, rel=1e-6)
    assert every[0]["loss"] == pytest.approx(every[0]["pixel"] + every[0]["image"], rel=1e-6)


@pytest.mark.parametrize("batch, size", [(4, 4), (5, 2), (7, 3), (7, 4), (10, 7)])
def test_shares_differ_by_one_image_at_most(batch, size):
    shares = [World(rank, size, rank, size).share(batch) for rank in range(size)]
    assert [k for share in shares for k in range(batch)[share]] == list(range(batch))
    counts = [share.stop - share.start for share in shares]
    assert max(counts) - min(counts) <= 1 and min(counts) >= 1


def test_fewer_images_than_processes_are_refused(tmp_path):
    run = Train(tmp_path / "out", device="cpu", quiet=True)
    with pytest.raises(UserError, match="batch 4 is smaller than the number of processes, 5"):
        train(Tiny(), "tiny", run, World(0, 5, 0, 5))
    assert not run.out.exists()


def test_a_schedule_that_never_reaches_a_phase_is_refused(tmp_path):
    run = Train(tmp_path / "out", device="cpu", quiet=True)
    # 12 steps of 4 images are 4.8 passes over 10 images.
    with pytest.raises(UserError, match=r"4\.8 epochs long and never reaches --late 5: give more"):
        train(Tiny(change(TINY, late=5.0)), "tiny", run)
    assert not run.out.exists()
    assert train(Tiny(change(TINY, late=4.7)), "tiny", run)


def test_snapshots_are_kept_beside_the_last_checkpoint(tmp_path):
    run_in(tmp_path, keep_every=5, save_every=1e9)
    names = {path.name for path in tmp_path.glob("*.pt")}
    assert names == {"last.pt", "step-000005.pt", "step-000010.pt"}
    assert [checkpoint.load(tmp_path / f"step-0000{n}.pt")["step"] for n in ("05", "10")] == [5, 10]
    run_in(tmp_path / "short", change(TINY, steps=5))
    early = checkpoint.load(tmp_path / "step-000005.pt")["network"]
    assert same_bits(early, weights(tmp_path / "short"))


def test_epochs_decide_where_no_steps_are_given(tmp_path):
    recipe = change(TINY, steps=None, epochs=2.0)
    train(Tiny(recipe), "tiny", Train(tmp_path, device="cpu", quiet=True))
    assert checkpoint.load(tmp_path / "last.pt")["step"] == 5  # 2 x 10 images in batches of 4
    with pytest.raises(UserError, match="give --steps or --epochs"):
        train(Tiny(change(recipe, epochs=None)), "tiny", Train(tmp_path / "none", device="cpu"))


def test_a_stage_sees_its_step_and_its_epoch(tmp_path):
    class Watching(Tiny):
        def losses(self, batch, context):
            seen.append((context.step, context.epoch))
            return super().losses(batch, context)

    seen = []
    train(Watching(), "tiny", Train(tmp_path, device="cpu", quiet=True, picture_every=0))
    assert seen == [(step, 4 * step // 10) for step in range(12)]


def test_compiled_network_learns_the_same(tmp_path, monkeypatch):
    run_in(tmp_path / "plain", log_every=1)
    # Traced and guarded as ever, but run without a C++ compiler.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    run_in(tmp_path / "compiled", log_every=1, compile=True)
    for plain, compiled in zip(logged(tmp_path / "plain"), logged(tmp_path / "compiled")):
        assert compiled == pytest.approx(plain, abs=1e-6)
    assert weights(tmp_path / "compiled").keys() == weights(tmp_path / "plain").keys()


def test_profile_prints_the_parts_of_a_step(tmp_path, capsys):
    run_in(tmp_path, profile=True)
    table = capsys.readouterr().out
    for part in ("load", "network", "losses", "backward", "optimizer", "all"):
        assert part in table
