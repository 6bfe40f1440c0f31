"""What others run a trained network from: safetensors, a torch program, ONNX.

export.py writes them. Every file is written whole or not at all.
"""

import base64
import gzip
import importlib.util
import io
import json
import re
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from base import WORK_PIXELS, UserError
from base.contract import Stage
from base.file import replacing
from datalist.bands import stored
from network.transformer import recordable_positions
from network.trunk import recordable
from utils import checkpoint
from utils.flags import Predict
from utils.infer import takes_windows

FORMAT = "seedseg-1"
DESCRIPTION = ("stage", "recipe", "classes", "step")
"""What a file says of its network, each as JSON."""
HOUSE = Path(__file__).resolve().parents[1]
TEMPLATE = "utils/template"
EXAMPLE = ("base/tile.py", "datalist/tiff.py", f"{TEMPLATE}/picture.py", f"{TEMPLATE}/predict.py")
"""predict.py, last, and what it imports."""
CRF = HOUSE / "CRF"
CRF_FILES = ("*.toml", "*.txt", "*.md", "LICENSE", "core/*", "src/**/*.py", "src/**/py.typed")
"""What a source archive of densecrf holds."""
YEAR_2000 = 946684800
"""Time of every file in the archive; wheels know none before 1980."""
ONNX_PACKAGES = ("onnx", "onnxscript")
TOLERANCE = 1e-4


class Program(nn.Module):
    """A stage that takes images as they are and gives scores of the same size: what test.py
    predicts at scale 1, without mirror image and CRF."""

    def __init__(self, stage: Stage):
        super().__init__()
        self.network = stage.network
        self.predict = stage.predict
        self.classes = list(stage.spec.classes)
        self.bands = stage.spec.bands
        self.data = stage.recipe.data

    def forward(self, image: Tensor) -> Tensor:
        """Scores (N, C, H, W), background first, of RGB images 0..255 (N, 3, H, W).

        A network of other bands takes (N, channels, H, W); `bands` says how they are made of files.
        """
        full = image.shape[-2:]
        image = image.float()
        # Whether sizes are equal must not be asked while tracing (so `is`, and not
        # `base.tensor.resize`): the program would refuse images for which the answer differs.
        if (size := self.data.input_size(full)) is not full:
            image = nn.functional.interpolate(image, size, mode="bilinear")
        return nn.functional.interpolate(self.predict([image], None, False), full, mode="bilinear")


def write_safetensors(path: Path, content: dict[str, Any]) -> None:
    """Write the content of a checkpoint: its network, and as metadata what it says of it."""
    metadata = {key: json.dumps(content.get(key)) for key in (*DESCRIPTION, "bands", "usual_size")}
    state = {key: value.detach().cpu().contiguous() for key, value in content["network"].items()}
    with replacing(path) as part:
        # Not save_file, whose file only its owner may read.
        part.write_bytes(save(state, {"format": "pt", "seedseg": FORMAT, **metadata}))


def read_safetensors(path: Path) -> dict[str, Any]:
    """Read what `write_safetensors` wrote, in the form that `utils.checkpoint.load` gives.

    Raises:
        UserError: a missing, damaged or foreign file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged, or no safetensors ({str(error)[:80]})") from error
    if metadata.get("seedseg") != FORMAT:
        raise UserError(f"{path}: not written by export.py (its mark {FORMAT!r} is missing)")
    try:
        content = {key: json.loads(metadata[key]) for key in DESCRIPTION}
        for key in ("bands", "usual_size"):
            content[key] = json.loads(metadata.get(key, "null"))
        content["recipe"] = tuples(content["recipe"])
    except (KeyError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: its metadata is damaged ({error})") from error
    checkpoint.check(path, content | {"network": state})
    return content | {"network": state}


def tuples(value: Any) -> Any:
    """Lists as tuples, at any depth: JSON knows no tuples, recipes no lists."""
    if isinstance(value, dict):
        return {key: tuples(part) for key, part in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value


class View(nn.Module):
    """A stage's network on images of the size at which they enter it."""

    def __init__(self, stage: Stage):
        super().__init__()
        self.network = stage.network
        self.view = stage.view

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`Stage.view` of images 0..255, float32 (N, channels, H, W)."""
        return self.view(image)


class Join(nn.Module):
    """What a stage makes of the means of views; holds no weights."""

    def __init__(self, stage: Stage):
        super().__init__()
        self.join = stage.join

    def forward(self, means: tuple[Tensor, ...], count: Tensor) -> Tensor:
        """`Stage.join` without tags; `count` is how many views there were, float32 ()."""
        return self.join(means, None, count)


def trace(model: nn.Module, *arguments: Any) -> torch.export.ExportedProgram:
    """Record a model as a program for any number of images of any one size.

    Of example arguments (N, K, h, w) the number and the size may be others in the program, of
    examples (N, K) the number.

    Raises:
        UserError: a stage whose steps depend on what an image shows, or a network that can be
            recorded for one size only, as some transformers.
    """

    def other_size(example: Any) -> Any:
        if isinstance(example, tuple):
            return tuple(map(other_size, example))
        if example.ndim < 4:
            return example[:1] if example.ndim else example
        height, width = example.shape[2:]
        return example.new_zeros(1, example.shape[1], 2 * height + 3, width)

    def sides(example: Any) -> Any:
        if isinstance(example, tuple):
            return tuple(map(sides, example))
        axes = (0, 2, 3)[: max(0, example.ndim - 1)]
        return dict.fromkeys(axes, torch.export.Dim.DYNAMIC)

    for module in model.modules():
        if getattr(module, "inplace", False):  # ONNX of changes in place takes twice as long
            module.inplace = False
    try:
        with torch.no_grad(), recordable(), recordable_positions(model):
            program = torch.export.export(model.eval(), arguments, dynamic_shapes=sides(arguments))
            # A step that asks about sizes leaves a condition in the program, which stops here.
            program.module()(*map(other_size, arguments))
            return program
    except UserError:
        raise
    except Exception as error:  # of a dozen kinds, most of them private to torch
        reason = str(error).strip().partition("\n")[0][:120]
        if reason.startswith("Guard failed"):
            reason = "its network can be recorded for images of one size only"
        raise UserError(f"this stage cannot be written as a program ({reason})") from error


def trace_whole(model: Program) -> torch.export.ExportedProgram:
    """Record a model as a program of uint8 images, for ONNX; raises as `trace`."""
    height, width = model.data.size
    # 0 and 1 would be taken for constants, equal sides for the same side.
    shape = (2, model.bands.channels, height + 5, width + 9)
    return trace(model, torch.zeros(shape, dtype=torch.uint8))


def write_program(path: Path, stage: Stage) -> None:
    """Write a stage's network as a program that torch alone runs.

    The program takes images of the size at which they enter the network, and gives `Stage.view` of
    them. Extra files in it: classes.json, bands.json, prediction.json (how test.py predicts with
    the stage) and join.pt2.base64, the program of `Join`.

    Raises:
        UserError: a stage that cannot be written as a program.
    """
    height, width = stage.recipe.data.size
    image = torch.zeros(2, stage.spec.bands.channels, height + 5, width + 9)
    view = trace(View(stage), image)
    with torch.no_grad():
        means = tuple(stage.view(image))
    join = io.BytesIO()
    torch.export.save(trace(Join(stage), means, torch.tensor(2.0)), join)
    files = {
        "classes.json": json.dumps(stage.spec.classes),
        "bands.json": json.dumps(stored(stage.spec.bands)),
        "prediction.json": json.dumps(prediction(stage)),
        "join.pt2.base64": base64.b64encode(join.getvalue()).decode(),
    }
    with replacing(path) as part, open(part, "wb") as file:
        torch.export.save(view, file, extra_files=files)


def prediction(stage: Stage) -> dict[str, Any]:
    """How test.py predicts with a stage: input size, scales, mirror image, CRF, windows."""
    data, test = stage.recipe.data, stage.recipe.prediction
    return {
        "fit": data.fit, "size": data.size, "long": data.test_long,
        "scales": test.test_scales, "mirror": test.test_mirror,
        "crf": test.test_crf, "crf_scale": test.test_crf_scale,
        "crf_least": test.test_crf_least, "first_view": stage.first_view,
        "window": stage.spec.usual_size if takes_windows(stage, Predict()) else None,
        "work_pixels": WORK_PIXELS,
    }  # fmt: skip


def write_example(path: Path) -> None:
    """Write the program that runs the model.pt2 beside it on pictures, and what it imports."""
    for source in EXAMPLE:
        with replacing(path.with_name(Path(source).name)) as part:
            part.write_bytes((HOUSE / source).read_bytes())


def write_crf(folder: Path) -> Path:
    """Write densecrf's source archive, for `pip install FILE`, whose bytes the sources decide."""
    (version,) = re.findall('(?m)^version = "(.+)"', (CRF / "pyproject.toml").read_text())
    name = f"densecrf-{version}"
    with (
        replacing(folder / f"{name}.tar.gz") as part,
        open(part, "wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for path in sorted(path for pattern in CRF_FILES for path in CRF.glob(pattern)):
            content = path.read_bytes()
            info = tarfile.TarInfo(f"{name}/{path.relative_to(CRF).as_posix()}")
            info.size, info.mtime = len(content), YEAR_2000
            archive.addfile(info, io.BytesIO(content))
    return folder / f"{name}.tar.gz"


def missing_onnx() -> list[str]:
    """Packages that `write_onnx` needs and that are not installed."""
    return [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]


def write_onnx(path: Path, program: Any, model: Program, metadata: dict) -> float | None:
    """Write an ONNX file with dynamic batch, height and width, of a program and its model.

    Returns:
        Largest difference of a probability from torch's; None where onnxruntime is missing.

    Raises:
        UserError: a package is missing or the difference is above 1e-4.
    """
    if missing := missing_onnx():
        raise UserError(f"ONNX needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    import onnx

    with warnings.catch_warnings():  # about names of the dynamic sides, which stand below
        warnings.simplefilter("ignore")
        converted = torch.onnx.export(
            program,
            input_names=["image"],
            output_names=["probability"],
            verbose=False,
            # torch.sym_sqrt is recorded under this name
            custom_translation_table={torch._sym_sqrt: square_root},
        )
    proto = converted.model_proto
    onnx.helper.set_model_props(proto, metadata)
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    with replacing(path) as part:
        part.write_bytes(proto.SerializeToString())
        difference = compare(part, model)
        if difference is not None and not difference <= TOLERANCE:
            raise UserError(f"{path}: ONNX differs from torch by {difference:.2g}; not written")
    return difference


def square_root(number: Any) -> Any:
    """The square root that input sizes need and torch's ONNX exporter lacks."""
    from onnxscript import FLOAT, opset18

    real: Any = opset18.Cast(number, to=FLOAT.dtype)
    return opset18.Sqrt(real)


def compare(path: Path, model: Program) -> float | None:
    """Largest difference of probabilities over three sizes; None without onnxruntime."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    worst = 0.0
    for count, *size in ((1, 96, 70), (3, 41, 64), (2, 75, 75)):
        image = rng.integers(0, 256, (count, model.bands.channels, *size), dtype=np.uint8)
        (found,) = session.run(None, {"image": image})
        with torch.no_grad():
            expected = model(torch.from_numpy(image)).numpy()
        if found.shape != expected.shape:
            return float("inf")
        worst = max(worst, float(np.abs(found - expected).max()))
    return worst
