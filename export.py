"""Take a trained network home: python -m utils.export CHECKPOINT (or python export.py)."""

# First, so that Ctrl-C during the other imports ends in one line.
from base import UserError, entry

# isort: split
import json
from pathlib import Path

import torch
import tyro

from method.restore import restore
from utils import checkpoint
from utils import export as files
from utils.export import Program


def load_program(path: Path) -> tuple[Program, dict]:
    """Build the network of a checkpoint, or of a model.safetensors, to run on images as they are.

    Args:
        path: last.pt of train.py, or model.safetensors of this script.

    Returns:
        The network in evaluation mode, and what the file says of it: stage, recipe, classes, step.

    Errors: UserError for an unusable file, or a stage that cannot be exported.
    """
    load = files.read_safetensors if path.suffix == ".safetensors" else checkpoint.load
    content = load(path)
    stage = restore(path, content, photos=True)
    if "export" not in stage.can:
        raise UserError(
            f"{path}: stage {content['stage']} cannot be exported; give a network that segments "
            "images by itself, such as the one that a chain retrains last"
        )
    return Program(stage).eval(), content


def main(path: tyro.conf.Positional[Path], out: Path | None = None) -> None:
    """Write model.safetensors, model.pt2 (runs with torch alone), predict.py and model.onnx.

    Args:
        path: the checkpoint, OUT/last.pt of train.py
        out: folder for the files; by default `home` beside the checkpoint
    """
    model, content = load_program(path)
    out = out or path.parent / "home"
    files.write_safetensors(out / "model.safetensors", content)
    print(out / "model.safetensors")
    program = files.trace(model)
    files.write_program(out / "model.pt2", program, model.classes)
    files.write_example(out / "predict.py")
    print(f"{out / 'model.pt2'}\n{out / 'predict.py'}")
    if missing := files.missing_onnx():
        print(f"no model.onnx: pip install {' '.join(missing)} onnxruntime, and run this again")
        return
    metadata = {key: json.dumps(content[key]) for key in files.DESCRIPTION}
    difference = files.write_onnx(out / "model.onnx", program, model, metadata)
    told = "not compared with torch: pip install onnxruntime"
    if difference is not None:
        told = f"differs from torch by {difference:.1g} at most"
    print(f"{out / 'model.onnx'} ({told})")


def command() -> None:
    """Run `main` with the words of the command line; a refusal is one sentence."""
    torch.manual_seed(0)
    with entry("export"):
        tyro.cli(main, prog="python -m utils.export")


if __name__ == "__main__":
    command()
