"""The training loop. It knows a stage by its contract and no method by name."""

from __future__ import annotations

import json
import math
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from base import UserError
from base.contract import Context, Stage
from datalist.dataset import worker_init
from utils import checkpoint, distributed, inputs
from utils.distributed import World, choose_device
from utils.draws import Draws
from utils.log import Log
from utils.output import write_text
from utils.progress import progress
from utils.record import command_line
from utils.solver import build_optimizer, build_schedule
from utils.timer import Timer

FILES = ("last.pt", "previous.pt", "step-*.pt", "recipe.json", "log.jsonl", "events.*")
"""What a run leaves in its folder."""


@dataclass(frozen=True)
class Run:
    """How to run a stage; nothing here changes what is learned, but for rounding."""

    out: Path
    """Folder of the run: checkpoints, logs, recipe.json. An unfinished run in it goes on."""
    fresh: bool = False
    """Where `out` holds a run of another recipe or other inputs, move that to OUT/old-N and train
    again; otherwise such a run is refused."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the network; the losses are float32 always."""
    workers: int = -1
    """Loader processes; -1: none on CPU, 4 on CUDA."""
    save_every: float = 120.0
    """Seconds between checkpoints."""
    keep_every: int = 0
    """Steps between checkpoints that are kept, OUT/step-STEP.pt; 0: none."""
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


class Speed:
    """Images a second since the last call, for the progress bar.

    Args:
        batch: images a step.
    """

    def __init__(self, batch: int):
        self.batch, self.last = batch, monotonic()

    def __call__(self, steps: int) -> str:
        now = monotonic()
        rate = steps * self.batch / max(now - self.last, 1e-9)
        self.last = now
        return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"


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


def train(
    stage: Stage,
    name: str,
    run: Run,
    world: World | None = None,
    on_step: Callable[[int], None] | None = None,
) -> bool:
    """Train a stage to its last step, from the beginning or from its last checkpoint.

    Args:
        stage: keeps the stage contract.
        name: name of the stage, stored in the checkpoint.
        run: where and how.
        world: this process among those of torchrun, which have been joined; default alone.
        on_step: called with the number of steps taken, before every step and after the last one.

    Returns:
        Whether there was anything left to do.

    Errors: UserError for a folder that holds another run, a batch that cannot be split, a schedule
    that never reaches one of its phases, or a loss that is not finite; Interrupted (after a
    checkpoint) on SIGTERM or Ctrl-C.
    """
    solver = stage.recipe.solver
    world = world or World()
    share = world.share(solver.batch)
    device = choose_device(run.device, world)
    data = stage.dataset()  # before anything is written: most refusals come from here
    steps = solver.total_steps(len(data))
    check_phases(stage, steps * solver.batch / len(data))
    sources = inputs.of_stage(stage, data)
    run.out.mkdir(parents=True, exist_ok=True)
    if difference := other_run(stage, name, run, sources):
        distributed.barrier()  # no process looks into the folder any more
        if world.main:
            print(f"{difference}: moved to {inputs.set_aside(run.out, FILES)}")
        distributed.barrier()
    stage.network.to(device, memory_format=torch.channels_last)
    replica = None
    if world.size > 1:
        stage.network, replica = distributed.replicate(stage.network, device)
    if run.compile:
        replica = torch.compile(replica or stage.network)
    optimizer = build_optimizer(solver, stage.groups(), fused=device.type == "cuda")
    schedule = build_schedule(solver, optimizer, steps)
    step, meter = resume(stage, run.out, optimizer, schedule)
    if not distributed.agree(step, device):
        raise UserError(
            f"{run.out}: not all machines see its checkpoint; --out needs a shared disk"
        )
    if step >= steps and (step or checkpoint.newest(run.out)):
        return False

    workers = run.workers if run.workers >= 0 else (4 if device.type == "cuda" else 0)
    draws = Draws(len(data), solver.batch, step, steps, solver.seed, share)
    loader = DataLoader(
        data,
        batch_sampler=draws,
        num_workers=workers,
        worker_init_fn=worker_init,
        pin_memory=device.type == "cuda",
    )
    log = None
    if world.main:
        checkpoint.sweep(run.out)
        record = {"stage": name, "command": command_line(), **checkpoint.flatten(stage.recipe)}
        record["inputs"] = inputs.summary(sources)
        write_text(run.out / "recipe.json", json.dumps(record, indent=1))
        log = Log(run.out, step)
    timer = Timer(device) if run.profile else None
    context = Context(
        bfloat16=run.precision == "bfloat16",
        replica=replica,
        mean=distributed.mean,
        weight=(share.stop - share.start) * world.size / solver.batch,
    )
    if timer:
        context.timer = timer.part

    def save(file: str = "last.pt") -> None:
        if world.main:
            content = {
                "stage": name,
                "recipe": asdict(stage.recipe),
                "classes": list(stage.spec.classes),
                "network": stage.network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "step": step,
                "meter": meter,
                "inputs": sources,
            }
            checkpoint.save(run.out / file, content)

    stage.network.train()
    saved, began = monotonic(), step
    bar = progress(steps, name, " steps", run.quiet or not world.main, step)
    speed = Speed(solver.batch)
    batches = iter(loader)
    with caught_signals() as caught:
        try:
            while step < steps:
                if on_step:
                    on_step(step)
                with context.timer("load"):
                    batch = to_device(next(batches), device)
                # The random state of a step is its number: dropout, mixing and the like depend on
                # nothing that came before, so no state of any generator need be stored.
                seed_everything(solver.seed, step, world.rank)
                context.step, context.epoch = step, step * solver.batch // len(data)
                with context.timer("losses"):
                    terms = stage.losses(batch, context)
                    total = torch.stack(list(terms.values())).sum()
                optimizer.zero_grad(set_to_none=True)
                with context.timer("backward"):
                    total.backward()
                # One read of all numbers, after the backward pass has been queued.
                own = torch.stack([total, *terms.values()]).detach()
                signalled = own.new_tensor([float(bool(caught))])
                *values, stop = distributed.mean(torch.cat([own, signalled])).tolist()
                if not all(map(math.isfinite, values)):
                    raise UserError(explain(step, terms, total, batch["id"], world))
                with context.timer("optimizer"):
                    if solver.max_norm:
                        nn.utils.clip_grad_norm_(stage.network.parameters(), solver.max_norm)
                    optimizer.step()
                lr = schedule.get_last_lr()[0]
                schedule.step()
                stage.after_step()
                step += 1
                for key, value in zip(["loss", *terms], values):
                    meter[key] = meter.get(key, 0.0) + value
                bar.update()
                if step % run.log_every == 0 or step == steps:
                    count = (step - 1) % run.log_every + 1
                    means = {key: value / count for key, value in meter.items()}
                    shown = {"images/s": speed(count)}
                    shown |= {key: f"{value:.3f}" for key, value in means.items()}
                    bar.set_postfix(shown, refresh=False)
                    if log:
                        log.scalars(step, {"lr": lr, **means})
                    meter = {}
                if log and run.picture_every and step % run.picture_every == 0:
                    show(stage, log, step, batch)
                if stop:  # all processes see it at the same step, whichever the signal reached
                    save()
                    raise Interrupted(caught[0] if caught else signal.SIGTERM)
                if run.keep_every and step % run.keep_every == 0:
                    save(f"step-{step:06d}.pt")
                if step == steps or monotonic() - saved > run.save_every:
                    save()
                    saved = monotonic()
            if not steps:  # the stage as it started, for test.py
                save()
            if on_step:
                on_step(step)
        finally:
            bar.close()
            if log:
                log.close()
            if timer and world.main:
                print(timer.table(step - began))
    return True


@contextmanager
def caught_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of stopping at once."""
    caught: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: caught.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield caught
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def check_phases(stage: Stage, epochs: float) -> None:
    """Raise UserError where the training ends before a phase of its schedule begins."""
    late = {flag: epoch for flag, epoch in stage.phases.items() if epoch >= epochs > 0}
    if late:
        flags = " and ".join(f"{flag} {epoch:g}" for flag, epoch in late.items())
        raise UserError(
            f"the training is {epochs:.3g} epochs long and never reaches {flags}: give more "
            "--steps, or --epochs with --steps None, or earlier epochs"
        )


def resume(stage: Stage, out: Path, optimizer: Any, schedule: Any) -> tuple[int, dict]:
    """Restore a run from its folder.

    Returns:
        The step to go on with and the sums of the losses since the last line of the log; 0 and
        nothing where the folder holds no checkpoint.
    """
    path = checkpoint.newest(out)
    if path is None:
        return 0, {}
    content = checkpoint.load(path)
    try:
        stage.network.load_state_dict(content["network"])
        optimizer.load_state_dict(content["optimizer"])
        schedule.load_state_dict(content["schedule"])
        return int(content["step"]), dict(content["meter"])
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: does not fit this version of the network ({reason})") from error


def other_run(stage: Stage, name: str, run: Run, sources: inputs.Inputs) -> str:
    """How the run in a folder differs from this one; empty where it does not, or there is none.

    Args:
        stage, name, run: as of `train`.
        sources: what this run learns from.

    Errors: UserError where stage, recipe, classes or inputs differ, without `run.fresh`.
    """
    path = checkpoint.newest(run.out)
    if path is None:
        return ""
    content = checkpoint.load(path)
    if content["stage"] != name:
        difference = f"is a run of {content['stage']}, not of {name}"
    elif changed := checkpoint.differences(stage.recipe, content["recipe"]):
        difference = f"was trained with another recipe ({'; '.join(changed)})"
    elif content["classes"] != list(stage.spec.classes):
        difference = "was trained on other classes"
    elif changed := inputs.changes(content.get("inputs"), sources):
        difference = f"was trained from other inputs ({'; '.join(changed)})"
    else:
        return ""
    if not run.fresh:
        raise UserError(
            f"{path} {difference}: add --fresh to keep that run in {run.out}/old-N and train again "
            "(for a chain set FRESH=1: parts that did not change, such as cues, are used again), "
            "or give another --out"
        )
    return f"{path} {difference}"


def explain(
    step: int, terms: dict[str, torch.Tensor], total: torch.Tensor, ids: list[str], world: World
) -> str:
    """One sentence on a loss that is not finite."""
    wrong = [
        f"{key} = {value.item()}" for key, value in terms.items() if not value.isfinite().all()
    ]
    if not wrong and total.isfinite():
        return (
            f"step {step}: the loss of another process is not finite (process {world.rank} stops)"
        )
    return (
        f"step {step}: the loss is not finite ({', '.join(wrong) or 'the sum overflows'}) on the "
        f"images {', '.join(ids)}; the last checkpoint is whole, try a lower learning rate"
    )


def show(stage: Stage, log: Log, step: int, batch: dict, most: int = 4) -> None:
    """Log the first images of a batch beside the stage's class maps."""
    few = {key: value[:most] for key, value in batch.items()}
    stage.network.eval()
    maps = stage.panels(few)
    stage.network.train()
    if maps:
        image = few["image"].permute(0, 2, 3, 1).cpu().numpy()
        log.panels(step, image, {title: m.cpu().numpy() for title, m in maps.items()})
