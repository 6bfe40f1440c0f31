"""Take a trained network home: python export.py CHECKPOINT --out DIR."""

import json
import sys
from pathlib import Path

import torch
import tyro

from datalist import DataError
from datalist.spec import Spec
from method import STAGES, stage_class
from utils import checkpoint
from utils import export as files
from utils.export import Segmenter


def load_segmenter(path: Path) -> tuple[Segmenter, dict]:
    """Build the network of a checkpoint, or of a model.safetensors, to run on images as they are.

    Args:
        path: last.pt of train.py, or model.safetensors of this script.

    Returns:
        The network in evaluation mode, and what the file says of it: stage, recipe, classes, step.

    Errors: DataError for an unusable file, or a stage that makes cues and does not segment.
    """
    load = files.read_safetensors if path.suffix == ".safetensors" else checkpoint.load
    content = load(path)
    if content["stage"] not in STAGES:
        raise DataError(f"{path}: stage '{content['stage']}' is not known to this version")
    kind = stage_class(content["stage"])
    if not kind.background:
        raise DataError(f"{path}: stage {content['stage']} makes cues; give one that segments")
    recipe = checkpoint.restore_recipe(path, content, type(next(iter(kind.recipes.values()))))
    spec = Spec(name="export", root=path.parent, classes=tuple(content["classes"]), lists={})
    stage = kind(recipe, spec)
    try:
        stage.network.load_state_dict(content["network"])
    except RuntimeError as error:
        raise DataError(f"{path}: its tensors are not those of its recipe's network") from error
    size = tuple(recipe.size) if kind.fit == "warp" else None
    return Segmenter(stage.network, content["classes"], size).eval(), content


def main(path: tyro.conf.Positional[Path], out: Path) -> None:
    """Write model.safetensors, model.pt2 (runs with torch alone) and model.onnx.

    Args:
        path: the checkpoint, OUT/last.pt of train.py
        out: folder for the three files
    """
    model, content = load_segmenter(path)
    files.write_safetensors(out / "model.safetensors", content)
    program = files.trace(model)
    files.write_program(out / "model.pt2", program, model.classes)
    print(f"{out / 'model.safetensors'}\n{out / 'model.pt2'}")
    if missing := files.missing_onnx():
        print(f"no model.onnx: pip install {' '.join(missing)} onnxruntime, and run this again")
        return
    metadata = {key: json.dumps(content[key]) for key in ("stage", "recipe", "classes", "step")}
    difference = files.write_onnx(out / "model.onnx", program, model, metadata)
    told = "not compared with torch: pip install onnxruntime"
    if difference is not None:
        told = f"differs from torch by {difference:.1g} at most"
    print(f"{out / 'model.onnx'} ({told})")


if __name__ == "__main__":
    torch.manual_seed(0)
    try:
        tyro.cli(main, prog="export.py")
    except (DataError, OSError, ValueError) as error:
        sys.exit(f"export.py: {error}")
