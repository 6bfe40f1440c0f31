"""Make a checkpoint for test.py from weights that were released for RecurSeed and EdgePredictMix.

    python script/released.py rsepm RELEASED.pth --dataset voc --out out/released
    python test.py out/released/last.pt --scales 1 0.5 1.5 2 --mirror --crf --out out/released/val

Prints which released tensor went where.
"""

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from base import UserError, entry
from datalist.spec import resolve
from method import stage_class
from network.convert import load_released
from utils import checkpoint


@dataclass(frozen=True)
class Flags:
    stage: tyro.conf.Positional[Literal["rsepm", "deeplab"]]
    """Single-stage network (ResNet-50), or the DeepLab-v3+ of the last stage (ResNet-101)."""
    released: Annotated[Path, tyro.conf.Positional]
    """Released state dict."""
    out: Path
    """Folder for last.pt."""
    dataset: str = "voc"
    """voc, coco, or a folder in VOC layout: what it was trained on."""
    root: str = ""
    """Where voc or coco lies, if not in its default place."""
    recipe: str = "paper"
    """Recipe of the network's shape."""


def main(flags: Flags) -> None:
    kind = stage_class(flags.stage)
    if flags.recipe not in kind.recipes:
        raise UserError(f"--recipe {flags.recipe}: this stage has {', '.join(kind.recipes)}")
    recipe = replace(kind.recipes[flags.recipe], dataset=flags.dataset, root=flags.root)
    spec = resolve(recipe.dataset, recipe.root or None)
    stage = kind(recipe, spec)
    network = getattr(stage.network, "live", stage.network)
    report, table = load_released(network, str(flags.released))
    if network is not stage.network:
        stage.network.reset()
    flags.out.mkdir(parents=True, exist_ok=True)
    content = {
        "stage": flags.stage,
        "recipe": asdict(recipe),
        "classes": list(spec.classes),
        "network": stage.network.state_dict(),
        "step": recipe.steps,
    }
    checkpoint.save(flags.out / "last.pt", content)
    width = max(map(len, table))
    print("\n".join(f"{theirs:{width}}  {ours}" for theirs, ours in table.items()))
    print(report.source, f"{len(report.used)} used, {len(report.unused)} unused", *report.unused)
    print(flags.out / "last.pt")


if __name__ == "__main__":
    with entry("released.py"):
        main(tyro.cli(Flags, description=__doc__))
