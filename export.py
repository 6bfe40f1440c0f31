#!/usr/bin/env python
"""Take a trained network home: python export.py CHECKPOINT [--out DIR]."""

import json
from pathlib import Path
from typing import Any

from base import UserError, entry


def load_stage(path: Path) -> tuple[Any, dict]:
    """The stage of train.py's last.pt or this program's model.safetensors, in evaluation mode, and
    what the file says of it: stage, recipe, classes, step.

    Raises:
        UserError: the file is unusable, or its stage cannot be exported.
    """
    from method.restore import restore
    from utils import checkpoint
    from utils.export import read_safetensors

    load = read_safetensors if path.suffix == ".safetensors" else checkpoint.load
    content = load(path)
    stage = restore(path, content, photos=True)
    if "export" not in stage.can:
        raise UserError(
            f"{path}: stage {content['stage']} cannot be exported; give a network that segments "
            "images by itself, such as the one that a chain retrains last"
        )
    stage.network.eval()
    return stage, content


def export(path: Path, out: Path | None = None) -> None:
    """Write the files of a checkpoint; arguments as of the flags."""
    import torch

    from utils import export as files

    torch.manual_seed(0)
    stage, content = load_stage(path)
    out = out or path.parent / "home"
    files.write_safetensors(out / "model.safetensors", content)
    print(out / "model.safetensors")
    files.write_program(out / "model.pt2", stage)
    print(out / "model.pt2")
    if missing := files.missing_onnx():
        print(f"no model.onnx: pip install {' '.join(missing)} onnxruntime, and run this again")
    else:
        model = files.Program(stage).eval()
        metadata = {key: json.dumps(content[key]) for key in files.DESCRIPTION}
        difference = files.write_onnx(out / "model.onnx", files.trace_whole(model), model, metadata)
        told = "not compared with torch: pip install onnxruntime"
        if difference is not None:
            told = f"differs from torch by {difference:.1g} at most"
        print(f"{out / 'model.onnx'} ({told})")
    if stage.recipe.prediction.test_crf:
        archive = files.write_crf(out)
        print(f"{archive} (the dense CRF of predict.py, elsewhere: pip install {archive})")
    files.write_example(out / "predict.py")  # last: with it, all is there
    print(out / "predict.py")


def main() -> None:
    """Read the flags and write the files."""
    import tyro

    from utils.flags import Export

    flags = tyro.cli(Export)
    export(flags.checkpoint, flags.out)


if __name__ == "__main__":
    with entry():
        main()
