"""Make a checkpoint for test.py from weights that another system released.

    python -m script.released SYSTEM RELEASED --dataset voc --out out/released
    python test.py out/released/last.pt --crf --out out/released/val

Systems: recurseed (single stage) and recurseed-deeplab (last stage) of RecurSeed and
EdgePredictMix; sec-pytorch of halbielee/SEC_pytorch; seam (resnet38_SEAM.pth); locate, the
segmenter (--edge_weights) of SegmentationFromLocalization, whose localiser stays untrained: use it
as --segmenter-checkpoint or --start-segmenter; irn-cam and irn of jiwoon-ahn/irn, the classifier
and the boundary network. Prints which released tensor went where. No data set is needed.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from base import UserError, entry
from base.recipe import change
from datalist.spec import COCO, VOC, Spec, read_classes
from method import stage_class
from network.convert import load_released
from utils import checkpoint


@dataclass(frozen=True)
class System:
    """Where the weights of a released system belong."""

    stage: str
    layout: str
    """Key of `network.convert.LAYOUTS`."""
    part: str = ""
    """Part of the stage's network that the weights are of; empty: all of it."""
    backbone: str = ""
    """Ending of the recipe's name."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields where the recipe differs from the named one."""


SYSTEMS = {
    "recurseed": System("rsepm", "recurseed", part="live"),
    "recurseed-deeplab": System("deeplab", "recurseed"),
    # Its test program feeds B, G, R minus the mean of Caffe's VGG16.
    "sec-pytorch": System("sec", "sec-pytorch", changes={"convention": "caffe"}),
    "seam": System("seam", "seam"),
    "locate": System("segmenter", "locate", part="segmenter"),
    # Plain activation maps: SEAM's network and predictions without pixel correlation.
    "irn-cam": System("seam", "irn-cam", backbone="resnet50", changes={"equivariance": False}),
    "irn": System("affinity", "irn"),
}


@dataclass(frozen=True)
class Flags:
    system: tyro.conf.Positional[Literal[tuple(SYSTEMS)]]
    """Who released the weights."""
    released: tyro.conf.Positional[Path]
    """Released state dict."""
    out: Path
    """Folder for last.pt."""
    dataset: str = "voc"
    """What it was trained on: voc, coco (neither needs files), or a folder with classes.txt."""
    root: str = ""
    """Where voc or coco lies, kept in the checkpoint for test.py."""
    classes: Path | None = None
    """Text file of class names, background first, one a line; default: those of the data set."""
    recipe: str = "paper"
    """Recipe of the network's shape."""


def class_names(flags: Flags) -> tuple[str, ...]:
    """Names of the classes, background first."""
    if flags.classes:
        return read_classes(flags.classes)
    if classes := {"voc": VOC, "coco": COCO}.get(flags.dataset):
        return classes
    path = Path(flags.dataset) / "classes.txt"
    if not path.is_file():
        raise UserError(f"--dataset {flags.dataset} has no {path}: name the classes by --classes")
    return read_classes(path)


def choose_recipe(system: System, flags: Flags) -> Any:
    """The recipe of the released network."""
    recipes = stage_class(system.stage).recipes
    name = "-".join(filter(None, (flags.recipe, system.backbone)))
    if name not in recipes:
        raise UserError(f"--recipe {flags.recipe}: {system.stage} has {', '.join(recipes)}")
    return change(recipes[name], dataset=flags.dataset, root=flags.root, **system.changes)


def main(flags: Flags) -> None:
    system = SYSTEMS[flags.system]
    recipe = choose_recipe(system, flags)
    spec = Spec(name=flags.dataset, root=Path("."), classes=class_names(flags), lists={})
    stage = stage_class(system.stage)(recipe, spec)
    network = stage.network.get_submodule(system.part)
    report, table = load_released(network, str(flags.released), system.layout)
    if hasattr(stage.network, "reset"):  # the moving average begins with the weights
        stage.network.reset()
    flags.out.mkdir(parents=True, exist_ok=True)
    content = {
        "stage": system.stage,
        "recipe": asdict(recipe),
        "classes": list(spec.classes),
        "network": stage.network.state_dict(),
        "step": 0,
    }
    checkpoint.save(flags.out / "last.pt", content)
    width = max(map(len, table))
    print("\n".join(f"{theirs:{width}}  {ours}" for theirs, ours in table.items()))
    print(f"{report.source}: {len(report.used)} used, {len(report.unused)} unused")
    if report.unused:
        print("unused:", ", ".join(report.unused[:8]), "..." if len(report.unused) > 8 else "")
    if system.part == "segmenter":
        print("the localiser is untrained: give the file as --segmenter-checkpoint")
    print(flags.out / "last.pt")


if __name__ == "__main__":
    with entry():
        main(tyro.cli(Flags, description=__doc__))
