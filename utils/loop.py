"""The training loop. It knows a stage by its contract and no method by name."""

from __future__ import annotations

import json
import math
import random
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from tqdm import tqdm

from base import UserError
from datalist.dataset import worker_init
from utils import checkpoint, distributed
from utils.distributed import World, choose_device
from utils.log import Log
from utils.output import write_text
from utils.record import command_line
from utils.timer import Timer


@dataclass(frozen=True)
class Run:
    """How to run a stage; nothing here changes what is learned, but for rounding."""

    out: Path
    """Folder of the run: checkpoints, logs, recipe.json. An unfinished run in it goes on."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the network; the losses are float32 always."""
    workers: int = -1
    """Loader processes; -1: none on CPU, 4 on CUDA."""
    save_every: float = 120.0
    """Seconds between checkpoints."""
    log_every: int = 10
    """Steps between lines of the log; values are means over them."""
    picture_every: int = 200
    """Steps between pictures in TensorBoard; 0: none."""
    compile: bool = False
    """Compile the network with torch.compile: minutes at the start, faster steps on CUDA."""
    profile: bool = False
    """Print at the end where the time of a step went."""
    quiet: bool = False
    """No progress bar."""


class Draws(Sampler):
    """Batches of (index, draw): every image once an epoch, in an order that the seed decides.

    The draw number counts samples since the first step; order and augmentation are functions of
    the seed and of it, so that a run can begin at any step.

    Args:
        length: images in the data set.
        batch: images a step.
        first, last: steps to deliver, `first` included, `last` not.
        seed: seed of the order.
        share: part of each batch to deliver, where several processes split it; default all.
    """

    def __init__(
        self,
        length: int,
        batch: int,
        first: int,
        last: int,
        seed: int,
        share: slice = slice(None),
    ):
        self.length, self.batch, self.first, self.last, self.seed = length, batch, first, last, seed
        self.share = share

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, np.empty(0, int)
        for step in range(self.first, self.last):
            batch = []
            for draw in range(step * self.batch, (step + 1) * self.batch):
                if draw // self.length != epoch:
                    epoch = draw // self.length
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
                batch.append((int(order[draw % self.length]), draw))
            yield batch[self.share]


class Speed:
    """Images a second since the last call, for the progress bar.

    Args:
        batch: images a step.
    """

    def __init__(self, batch: int):
        self.batch, self.last = batch, monotonic()

    def __call__(self, steps: int) -> str:
        now = monotonic()
        found = steps * self.batch / max(now - self.last, 1e-9)
        self.last = now
        return f"{found:.0f}" if found >= 10 else f"{found:.2g}"


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to stop; its number is the argument."""


def seed_everything(*numbers: int) -> None:
    """Seed every global generator from some numbers >= 0, the same on all machines."""
    state = np.random.SeedSequence(numbers).generate_state(2, np.uint32)
    random.seed(int(state[0]))
    np.random.seed(state[0])
    torch.manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)  # CUDA devices too


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Move the tensors of a batch to a device."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }


def train(stage: Any, name: str, run: Run, place: World | None = None) -> bool:
    """Train a stage to its last step, from the beginning or from its last checkpoint.

    Args:
        stage: an object that keeps the stage contract.
        name: name of the stage, stored in the checkpoint.
        run: where and how.
        place: this process among those of torchrun, which have been joined; default alone.

    Returns:
        Whether there was anything left to do.

    Errors: UserError for a folder that holds another run, a batch that cannot be split or a loss
    that is not finite, Interrupted (after a checkpoint) on SIGTERM
    or Ctrl-C.
    """
    recipe = stage.recipe
    place = place or World()
    share = place.share(recipe.batch)
    device = choose_device(run.device, place)
    data = stage.dataset()  # before anything is written: most refusals come from here
    run.out.mkdir(parents=True, exist_ok=True)
    stage.to(device)
    stage.half = run.precision == "bfloat16"
    stage.average = distributed.mean
    if place.size > 1:
        stage.network, stage.replica = distributed.replicate(stage.network, device)
    if run.compile:
        stage.replica = torch.compile(stage.network if stage.replica is None else stage.replica)
    optimizer = stage.optimizer()
    schedule = stage.schedule(optimizer)
    step, meter = resume(stage, name, run.out, optimizer, schedule)
    if not distributed.agree(step, device):
        raise UserError(
            f"{run.out}: not all machines see its checkpoint; --out needs a shared disk"
        )
    if step >= recipe.steps and (step or checkpoint.newest(run.out)):
        return False

    workers = run.workers if run.workers >= 0 else (4 if device.type == "cuda" else 0)
    first = place.rank * share
    loader = DataLoader(
        data,
        batch_sampler=Draws(
            len(data), recipe.batch, step, recipe.steps, recipe.seed, slice(first, first + share)
        ),
        num_workers=workers,
        worker_init_fn=worker_init,
        pin_memory=device.type == "cuda",
    )
    log = None
    if place.main:
        checkpoint.sweep(run.out)
        made = {"stage": name, "command": command_line(), **asdict(recipe)}
        write_text(run.out / "recipe.json", json.dumps(made, indent=1))
        log = Log(run.out, step)
    timer = Timer(device) if run.profile else None
    part = timer.part if timer else nullcontext_of
    stage.part = part

    def save() -> None:
        if place.main:
            content = {
                "stage": name,
                "recipe": asdict(recipe),
                "classes": list(stage.spec.classes),
                "network": stage.network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "step": step,
                "meter": meter,
            }
            checkpoint.save(run.out / "last.pt", content)

    caught: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: caught.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    stage.network.train()
    saved, began = monotonic(), step
    quiet = run.quiet or not place.main
    bar = tqdm(
        total=recipe.steps, initial=step, desc=name, unit="step", disable=quiet, dynamic_ncols=True
    )
    speed = Speed(recipe.batch)
    batches = iter(loader)
    try:
        while step < recipe.steps:
            with part("load"):
                batch = to_device(next(batches), device)
            # The random state of a step is its number: dropout, mixing and the like depend on
            # nothing that came before, so no state of any generator need be stored.
            seed_everything(recipe.seed, step, place.rank)
            with part("losses"):
                terms = stage.losses(batch, step)
                total = torch.stack(list(terms.values())).sum()
            optimizer.zero_grad(set_to_none=True)
            with part("backward"):
                total.backward()
            # One read of all numbers, after the backward pass has been queued.
            own = torch.stack([total, *terms.values()]).detach()
            signalled = own.new_tensor([float(bool(caught))])
            *values, stop = distributed.mean(torch.cat([own, signalled])).tolist()
            if not all(map(math.isfinite, values)):
                raise UserError(explain(step, terms, total, batch["id"], place))
            with part("optimizer"):
                optimizer.step()
            lr = schedule.get_last_lr()[0]
            schedule.step()
            stage.after_step(step)
            step += 1
            for key, value in zip(["loss", *terms], values):
                meter[key] = meter.get(key, 0.0) + value
            bar.update()
            if step % run.log_every == 0 or step == recipe.steps:
                count = (step - 1) % run.log_every + 1
                means = {key: value / count for key, value in meter.items()}
                shown = {"images/s": speed(count)}
                bar.set_postfix(shown | {key: f"{value:.3f}" for key, value in means.items()})
                if log:
                    log.scalars(step, {"lr": lr, **means})
                meter = {}
            if log and run.picture_every and step % run.picture_every == 0:
                show(stage, log, step, batch)
            if stop:  # all processes see it at the same step, whichever the signal reached
                save()
                raise Interrupted(caught[0] if caught else signal.SIGTERM)
            if step == recipe.steps or monotonic() - saved > run.save_every:
                save()
                saved = monotonic()
        if not recipe.steps:  # the stage as it started, for test.py
            save()
    finally:
        bar.close()
        if log:
            log.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if timer and place.main:
            print(timer.table(step - began))
    return True


def nullcontext_of(_: str) -> nullcontext:
    """Stand in for `Timer.part` where nothing is timed."""
    return nullcontext()


def resume(stage: Any, name: str, out: Path, optimizer: Any, schedule: Any) -> tuple[int, dict]:
    """Restore a run from its folder.

    Returns:
        The step to go on with and the sums of the losses since the last line of the log; 0 and
        nothing where the folder holds no checkpoint.
    """
    path = checkpoint.newest(out)
    if path is None:
        return 0, {}
    content = checkpoint.load(path)
    check_same_run(path, content, name, stage)
    try:
        stage.network.load_state_dict(content["network"])
        optimizer.load_state_dict(content["optimizer"])
        schedule.load_state_dict(content["schedule"])
        return int(content["step"]), dict(content["meter"])
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: does not fit this version of the network ({reason})") from error


def check_same_run(path: Path, content: dict, name: str, stage: Any) -> None:
    """Refuse to go on from a checkpoint of another stage, recipe or list of classes."""
    advice = "give another --out, or remove that folder to start again"
    if content["stage"] != name:
        raise UserError(f"{path} is a run of {content['stage']}, not of {name}: {advice}")
    changed = checkpoint.differences(stage.recipe, content["recipe"])
    if changed:
        raise UserError(f"{path} was trained with another recipe ({'; '.join(changed)}): {advice}")
    if content["classes"] != list(stage.spec.classes):
        raise UserError(f"{path} was trained on other classes: {advice}")


def explain(
    step: int, terms: dict[str, torch.Tensor], total: torch.Tensor, ids: list[str], place: World
) -> str:
    """One sentence on a loss that is not finite."""
    wrong = [
        f"{key} = {value.item()}" for key, value in terms.items() if not value.isfinite().all()
    ]
    if not wrong and total.isfinite():
        return (
            f"step {step}: the loss of another process is not finite (process {place.rank} stops)"
        )
    return (
        f"step {step}: the loss is not finite ({', '.join(wrong) or 'the sum overflows'}) on the "
        f"images {', '.join(ids)}; the last checkpoint is whole, try a lower learning rate"
    )


def show(stage: Any, log: Log, step: int, batch: dict, most: int = 4) -> None:
    """Log the first images of a batch beside the stage's class maps."""
    few = {key: value[:most] for key, value in batch.items()}
    stage.network.eval()
    maps = stage.panels(few)
    stage.network.train()
    if maps:
        image = few["image"].permute(0, 2, 3, 1).cpu().numpy()
        log.panels(step, image, {title: m.cpu().numpy() for title, m in maps.items()})
