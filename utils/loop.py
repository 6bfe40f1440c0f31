"""The training loop. It knows a stage by its contract and no method by name."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from tqdm import tqdm

from datalist import DataError
from datalist.dataset import worker_init
from utils import checkpoint
from utils.log import Log
from utils.output import write_text


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
    """

    def __init__(self, length: int, batch: int, first: int, last: int, seed: int):
        self.length, self.batch, self.first, self.last, self.seed = length, batch, first, last, seed

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
            yield batch


class Interrupted(Exception):
    """A signal asked the run to stop; its number is the argument."""


def choose_device(name: str) -> torch.device:
    """Turn auto / cpu / cuda / cuda:N into a device.

    Errors: DataError where CUDA is asked for and not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DataError(f"--device {name}: give auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DataError(f"--device {name}: this machine has no CUDA device; give cpu or auto")
    return device


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Move the tensors of a batch to a device."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }


def train(stage: Any, name: str, run: Run) -> bool:
    """Train a stage to its last step, from the beginning or from its last checkpoint.

    Args:
        stage: an object that keeps the stage contract.
        name: name of the stage, stored in the checkpoint.
        run: where and how.

    Returns:
        Whether there was anything left to do.

    Errors: DataError for a folder that holds another run, FloatingPointError for a loss that is
    not finite, Interrupted (after a checkpoint) on SIGTERM or Ctrl-C.
    """
    recipe = stage.recipe
    device = choose_device(run.device)
    run.out.mkdir(parents=True, exist_ok=True)
    stage.to(device)
    stage.half = run.precision == "bfloat16"
    optimizer = stage.optimizer()
    schedule = stage.schedule(optimizer)
    step, meter = 0, {}
    path = checkpoint.newest(run.out)
    if path is not None:
        content = checkpoint.load(path)
        check_same_run(path, content, name, stage)
        stage.network.load_state_dict(content["network"])
        optimizer.load_state_dict(content["optimizer"])
        schedule.load_state_dict(content["schedule"])
        step, meter = content["step"], content["meter"]
        if step >= recipe.steps:
            return False
    write_text(run.out / "recipe.json", json.dumps({"stage": name, **asdict(recipe)}, indent=1))

    data = stage.dataset()
    workers = run.workers if run.workers >= 0 else (4 if device.type == "cuda" else 0)
    loader = DataLoader(
        data,
        batch_sampler=Draws(len(data), recipe.batch, step, recipe.steps, recipe.seed),
        num_workers=workers,
        worker_init_fn=worker_init,
        pin_memory=device.type == "cuda",
    )
    log = Log(run.out, step)

    def save() -> None:
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
    saved = monotonic()
    bar = tqdm(total=recipe.steps, initial=step, desc=name, unit="step", disable=run.quiet)
    try:
        for batch in loader:
            # Dropout and the like depend on the seed and the step alone, whatever came before.
            torch.manual_seed(hash((recipe.seed, step)) % 2**63)
            batch = to_device(batch, device)
            terms = stage.losses(batch, step)
            total = torch.stack(list(terms.values())).sum()
            if not math.isfinite(total.item()):
                raise FloatingPointError(explain(step, terms, batch["id"]))
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            optimizer.step()
            lr = schedule.get_last_lr()[0]
            schedule.step()
            stage.after_step(step)
            step += 1
            for key, value in {"loss": total, **terms}.items():
                meter[key] = meter.get(key, 0.0) + value.item()
            bar.update()
            if step % run.log_every == 0 or step == recipe.steps:
                count = (step - 1) % run.log_every + 1
                means = {key: value / count for key, value in meter.items()}
                log.scalars(step, {"lr": lr, **means})
                bar.set_postfix({key: f"{value:.3f}" for key, value in means.items()})
                meter = {}
            if run.picture_every and step % run.picture_every == 0:
                show(stage, log, step, batch)
            if caught:
                save()
                raise Interrupted(caught[0])
            if step == recipe.steps or monotonic() - saved > run.save_every:
                save()
                saved = monotonic()
    finally:
        bar.close()
        log.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return True


def check_same_run(path: Path, content: dict, name: str, stage: Any) -> None:
    """Refuse to go on from a checkpoint of another stage, recipe or list of classes."""
    advice = "give another --out, or remove that folder to start again"
    if content["stage"] != name:
        raise DataError(f"{path} is a run of {content['stage']}, not of {name}: {advice}")
    changed = checkpoint.differences(stage.recipe, content["recipe"])
    if changed:
        raise DataError(f"{path} was trained with another recipe ({'; '.join(changed)}): {advice}")
    if content["classes"] != list(stage.spec.classes):
        raise DataError(f"{path} was trained on other classes: {advice}")


def explain(step: int, terms: dict, ids: list[str]) -> str:
    """One sentence on a loss that is not finite."""
    wrong = [f"{key} = {value.item()}" for key, value in terms.items() if not value.isfinite().all()]
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
