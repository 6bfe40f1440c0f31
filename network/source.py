"""Where published weights come from: torchvision, timm, or a file; nothing in a file is run."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from base import UserError
from base.file import digest
from network.caffe import read_caffemodel
from network.normalise import CONVENTION, Normalise

FORMATS = "torchvision, timm:NAME, none, or the path of a state dict"


@dataclass(frozen=True)
class Source:
    """A state dict and what is known of it."""

    name: str
    state: dict[str, Tensor]
    sha256: str = ""
    """Digest of the file it was read from, hexadecimal, if known."""
    colour: tuple[tuple[float, ...], tuple[float, ...], str] | None = None
    """Mean, std and channel order of the images it was trained with, as in `CONVENTION`."""

    def check_colour(self, normalise: Normalise) -> None:
        """Raise UserError where a network feeds its images in other colours than these."""
        if self.colour is None:
            return
        mean, std, order = self.colour
        fitting = [
            name
            for name, other in CONVENTION.items()
            if np.allclose((mean, std), other[:2], atol=0.6) and order == other[2]
        ]
        if normalise.convention not in fitting:
            advice = f"give --convention {fitting[0]}" if fitting else "choose other weights"
            raise UserError(
                f"{self.name} expects {order} with mean {[round(m) for m in mean]}, and the "
                f"convention '{normalise.convention}' is another: {advice}"
            )


def open_source(name: str, architecture: str) -> Source:
    """Get the weights that `--weights` names: torchvision, timm:NAME, or the path of a .pt, .pth,
    .safetensors or .caffemodel. `architecture` is torchvision's name of the network."""
    if name == "torchvision":
        return from_torchvision(architecture)
    if name.startswith("timm:"):
        return from_timm(name.removeprefix("timm:"))
    colour = CONVENTION["caffe"] if Path(name).suffix == ".caffemodel" else None
    return Source(name, read_state(name), digest(Path(name)), colour)


def from_torchvision(architecture: str) -> Source:
    """ImageNet weights of torchvision (downloaded on first use)."""
    from torchvision import models  # takes seconds to import

    weights = models.get_model_weights(architecture).IMAGENET1K_V1
    try:
        state = weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"torchvision's {architecture} weights could not be downloaded ({error}); "
            "give the path of a downloaded file, or none"
        ) from error
    file = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    return Source("torchvision", state, digest(file), CONVENTION["torchvision"])


def from_timm(name: str) -> Source:
    """Weights of timm (downloaded on first use), such as resnet50.a1_in1k."""
    try:
        import timm
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        raise UserError(f"timm:{name} needs timm: pip install timm") from None
    known = timm.list_pretrained(f"{name.partition('.')[0]}*")
    if not any(other == name or other.startswith(f"{name}.") for other in known):
        near = f"; it has {', '.join(known[:5])}" if known else ""
        raise UserError(f"timm has no weights '{name}'{near}")
    try:
        network = timm.create_model(name, pretrained=True)
    except Exception as error:  # of urllib, the hub's client or torch
        reason = str(error).partition("\n")[0][:200]
        raise UserError(
            f"timm:{name} could not be downloaded ({reason}); give the path of a downloaded "
            "file, or none"
        ) from error
    facts = network.pretrained_cfg
    file = facts.get("file") or try_to_load_from_cache(
        facts.get("hf_hub_id") or "none", "model.safetensors"
    )
    mean, std = (tuple(255 * value for value in facts[key]) for key in ("mean", "std"))
    sha256 = digest(Path(file)) if isinstance(file, str) else ""
    return Source(f"timm:{name}", network.state_dict(), sha256, (mean, std, "RGB"))


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict: .pt or .pth (tensors only, nothing is executed), safetensors, caffemodel.

    Raises:
        UserError: where the file is missing, damaged or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such weight file; give {FORMATS}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if path.suffix == ".caffemodel":
            return read_caffemodel(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{path}: not a state dict of tensors ({reason})") from error
    for key in ("state_dict", "network", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise UserError(f"{path}: holds no state dict (a mapping of names to tensors)")
    return state
