"""The training loop. It knows a stage by its contract and no method by name."""

import json
import math
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from base import UserError
from base.contract import Context, Stage
from base.file import locked, set_aside, write_text
from datalist.bands import from_stored, stored
from datalist.dataset import Images, worker_init
from datalist.image import median_size
from utils import checkpoint, checksum, distributed
from utils.distributed import World, choose_device
from utils.draws import Draws
from utils.flags import Train
from utils.log import Log
from utils.progress import progress
from utils.record import command_line
from utils.solver import build_optimizer, build_schedule
from utils.timer import Timer

FILES = ("last.pt", "previous.pt", "step-*.pt", "recipe.json", "log.jsonl", "events.*")
"""What a run leaves in its folder."""


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


class Loop:
    """The training of one stage, whose name the checkpoint stores, by this process of a world.

    Raises:
        UserError: the batch cannot be split, or the schedule never reaches one of its phases.
    """

    def __init__(self, stage: Stage, name: str, flags: Train, world: World):
        self.stage, self.name, self.flags, self.world = stage, name, flags, world
        self.solver = stage.recipe.solver
        stage.folder = flags.out
        self.share = world.share(self.solver.batch)
        self.device = choose_device(flags.device, world)
        self.data = stage.dataset()  # before anything is written: most refusals come from here
        self.steps = self.solver.total_steps(len(self.data))
        check_phases(stage, self.steps * self.solver.batch / len(self.data))
        self.inputs = checksum.of_stage(stage, self.data)
        self.usual_size = usual_size(self.data)
        self.taken = 0
        """Steps taken so far."""
        self.meter: dict[str, float] = {}
        """Sums of the losses since the last line of the log."""
        self.caught: list[int] = []
        """Signals that asked this process to stop."""

    def prepare(self) -> bool:
        """Move the network to its device and go on from the last checkpoint of the folder.

        Returns whether there is anything left to do.

        Raises:
            UserError: the folder holds another run, or machines do not share it.
        """
        stage, flags, world, device = self.stage, self.flags, self.world, self.device
        flags.out.mkdir(parents=True, exist_ok=True)
        if difference := other_run(stage, self.name, flags, self.inputs):
            distributed.barrier()  # no process looks into the folder any more
            if world.main:
                print(f"{difference}: moved to {set_aside(flags.out, FILES)}")
            distributed.barrier()
        stage.network.to(device, memory_format=torch.channels_last)
        replica = None
        if world.size > 1:
            stage.network, replica = distributed.replicate(stage.network, device)
        if flags.compile:
            replica = torch.compile(replica or stage.network)
        self.optimizer = build_optimizer(self.solver, stage.groups())
        self.schedule = build_schedule(self.solver, self.optimizer, self.steps)
        started = self.resume()
        self.timer = Timer(device) if flags.profile else None
        images = self.share.stop - self.share.start
        self.context = Context(
            bfloat16=flags.precision == "bfloat16",
            replica=replica,
            mean=distributed.mean,
            weight=images * world.size / self.solver.batch,
        )
        if self.timer:
            self.context.timer = self.timer.part
        return self.taken < self.steps or not started

    def resume(self) -> bool:
        """Restore the run from its folder; returns whether there was a checkpoint."""
        path = checkpoint.newest(self.flags.out)
        if path is not None:
            content = checkpoint.load(path)
            try:
                self.stage.network.load_state_dict(content["network"])
                self.optimizer.load_state_dict(content["optimizer"])
                self.schedule.load_state_dict(content["schedule"])
                self.taken, self.meter = int(content["step"]), dict(content["meter"])
            except (KeyError, RuntimeError, ValueError, TypeError) as error:
                reason = str(error).splitlines()[0]
                raise UserError(
                    f"{path} was written by another version of this program ({reason}): "
                    f"move {self.flags.out} away to train afresh, or give another --out"
                ) from error
        if not distributed.agree(self.taken, self.device):
            lost = f"{self.flags.out}: not all machines see its checkpoint"
            raise UserError(f"{lost}; --out needs a shared disk")
        return path is not None

    def save(self, file: str = "last.pt") -> None:
        """Write a checkpoint; only the main process does."""
        if self.world.main:
            content = {
                "stage": self.name,
                "recipe": asdict(self.stage.recipe),
                "classes": list(self.stage.spec.classes),
                "network": self.stage.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "step": self.taken,
                "meter": self.meter,
                "inputs": self.inputs,
                "bands": stored(self.stage.spec.bands),
                "usual_size": self.usual_size,
            }
            checkpoint.save(self.flags.out / file, content)

    def batches(self) -> Iterator[dict[str, Any]]:
        """The batches of the steps that are left, on the device."""
        on_cuda, workers = self.device.type == "cuda", self.flags.workers
        if workers < 0:
            workers = 4 if on_cuda else 0
        draws = Draws(
            len(self.data), self.solver.batch, self.taken, self.steps, self.solver.seed,
            self.share, getattr(self.data, "bags", None),
        )  # fmt: skip
        loader = DataLoader(
            self.data,
            batch_sampler=draws,
            num_workers=workers,
            worker_init_fn=worker_init,
            pin_memory=on_cuda,
        )
        samples = iter(loader)
        with ThreadPoolExecutor(1) as beside:  # the next batch, while the network learns from one
            coming = beside.submit(next, samples, None)
            while True:
                with self.context.timer("load"):
                    batch = coming.result()
                    if batch is None:
                        return
                    coming = beside.submit(next, samples, None)
                    batch = to_device(batch, self.device)
                yield batch

    def step(self, batch: dict[str, Any]) -> bool:
        """Learn from one batch; returns whether a signal asked one of the processes to stop."""
        solver, context, stage = self.solver, self.context, self.stage
        # The random state of a step is its number: dropout, mixing and the like depend on nothing
        # that came before, so no state of any generator need be stored.
        seed_everything(solver.seed, self.taken, self.world.rank)
        context.step, context.epoch = self.taken, self.taken * solver.batch // len(self.data)
        with context.timer("losses"):
            terms = stage.losses(batch, context)
            total = torch.stack(list(terms.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        with context.timer("backward"):
            total.backward()
        # One read of all numbers, after the backward pass has been queued.
        own = torch.stack([total, *terms.values()]).detach()
        signalled = own.new_tensor([float(bool(self.caught))])
        *values, stop = distributed.mean(torch.cat([own, signalled])).tolist()
        if not all(map(math.isfinite, values)):
            raise UserError(explain(self.taken, terms, total, batch["id"], self.world))
        with context.timer("optimizer"):
            if solver.max_norm:
                nn.utils.clip_grad_norm_(stage.network.parameters(), solver.max_norm)
            self.optimizer.step()
        self.schedule.step()
        stage.after_step()
        self.taken += 1
        for key, value in zip(["loss", *terms], values):
            self.meter[key] = self.meter.get(key, 0.0) + value
        return bool(stop)

    def run(self) -> None:
        """Take the steps that are left, with checkpoints, log and progress.

        Raises:
            UserError: a loss is not finite. Interrupted: after a checkpoint, on SIGTERM or Ctrl-C.
        """
        flags, stage, began = self.flags, self.stage, self.taken
        log = self.open_log() if self.world.main else None
        bar = progress(self.steps, self.name, " steps", flags.quiet or log is None, began)
        saved = monotonic()
        stage.network.train()
        with caught_signals() as self.caught:
            try:
                for batch in self.batches():
                    lr = self.schedule.get_last_lr()[0]
                    stop = self.step(batch)
                    bar.update()
                    last = self.taken == self.steps
                    if self.taken % flags.log_every == 0 or last:
                        count = (self.taken - 1) % flags.log_every + 1
                        means = {key: value / count for key, value in self.meter.items()}
                        shown = {key: f"{value:.3f}" for key, value in means.items()}
                        rate = self.solver.batch * (bar.format_dict["rate"] or 0)
                        bar.set_postfix({"images/s": f"{rate:.3g}"} | shown, refresh=False)
                        if log:
                            log.scalars(self.taken, {"lr": lr, **means})
                        self.meter = {}
                    if log and flags.picture_every and self.taken % flags.picture_every == 0:
                        show(stage, log, self.taken, batch)
                    if stop:  # all processes see it at the same step, whichever got the signal
                        self.save()
                        raise Interrupted(self.caught[0] if self.caught else signal.SIGTERM)
                    if flags.keep_every and self.taken % flags.keep_every == 0:
                        self.save(f"step-{self.taken:06d}.pt")
                    if last or monotonic() - saved > flags.save_every:
                        self.save()
                        saved = monotonic()
                if not self.steps:  # the stage as it started, for test.py
                    self.save()
            finally:
                bar.close()
                if log:
                    log.close()
                if self.timer and self.world.main:
                    print(self.timer.table(self.taken - began))

    def open_log(self) -> Log:
        """Write recipe.json, and go on with the log."""
        checkpoint.sweep(self.flags.out)
        record: dict[str, Any] = {"stage": self.name, "command": command_line()}
        record |= checkpoint.flatten(self.stage.recipe)
        record["inputs"] = checksum.summary(self.inputs)
        write_text(self.flags.out / "recipe.json", json.dumps(record, indent=1))
        return Log(self.flags.out, self.taken)


def train(stage: Stage, name: str, flags: Train, world: World | None = None) -> bool:
    """Train a stage to its last step, from the beginning or from its last checkpoint.

    Arguments as of `Loop`; default: a process alone. Returns whether anything was left to do.

    Raises:
        UserError: the folder, schedule or batch do not fit, or a loss is not finite.
        Interrupted: after a checkpoint, on SIGTERM or Ctrl-C.
    """
    loop = Loop(stage, name, flags, world or World())
    with locked(flags.out) if loop.world.main else nullcontext():
        if not loop.prepare():
            return False
        loop.run()
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


def usual_size(data: Any, most: int = 500) -> tuple[int, int] | None:
    """Median (height, width) of `most` of the training images; None where these are no files."""
    if not isinstance(data, Images):
        return None
    chosen = data.ids[:: -(-len(data.ids) // most)]
    height, width = median_size(map(data.spec.image_path, chosen))
    return round(height), round(width)


def check_phases(stage: Stage, epochs: float) -> None:
    """Raise UserError where the training ends before a phase of its schedule begins."""
    late = {flag: epoch for flag, epoch in stage.phases.items() if epoch >= epochs > 0}
    if late:
        flags = " and ".join(f"{flag} {epoch:g}" for flag, epoch in late.items())
        raise UserError(
            f"the training is {epochs:.3g} epochs long and never reaches {flags}: give more "
            "--steps, or --epochs with --steps None, or earlier epochs"
        )


def other_run(stage: Stage, name: str, flags: Train, sources: checksum.Checksums) -> str:
    """How the run in a folder differs from this one, which learns from `sources`; "": not at all.

    Raises:
        UserError: it differs, without `flags.fresh`.
    """
    path = checkpoint.newest(flags.out)
    if path is None:
        return ""
    content = checkpoint.load(path)
    if content["stage"] != name:
        difference = f"is a run of {content['stage']}, not of {name}"
    elif changed := checkpoint.differences(stage.recipe, content["recipe"]):
        difference = f"was trained with another recipe ({'; '.join(changed)})"
    elif content["classes"] != list(stage.spec.classes):
        difference = "was trained on other classes"
    elif from_stored(content.get("bands"), path) != stage.spec.bands:
        difference = "was trained on other bands or values of the pictures (bands.json)"
    elif changed := checksum.changes(content.get("inputs"), sources):
        difference = f"was trained from other inputs ({'; '.join(changed)})"
    else:
        return ""
    if not flags.fresh:
        raise UserError(
            f"{path} {difference}: add --fresh to keep that run in {flags.out}/old-N and train "
            "again (for a chain set FRESH=1: parts that did not change, such as cues, are used "
            "again), or give another --out"
        )
    return f"{path} {difference}"


def explain(step: int, terms: dict, total: torch.Tensor, ids: list[str], world: World) -> str:
    """One sentence on a loss that is not finite."""
    wrong = [f"{key} = {value.item()}" for key, value in terms.items() if not value.isfinite()]
    if not wrong and total.isfinite():
        stop = f"process {world.rank} stops"
        return f"step {step}: the loss of another process is not finite ({stop})"
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
        image = few["image"][:, :3].permute(0, 2, 3, 1).cpu().numpy()
        log.panels(step, image, {title: m.cpu().numpy() for title, m in maps.items()})
