"""Loads published weights into networks, with a report of the keys."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from math import isqrt
from pathlib import Path

import torch
from torch import Tensor, nn

from base import UserError
from base.file import digest
from network.bands import narrow
from network.source import open_source, read_state

# Position of each convolution in torchvision's vgg16().features.
VGG_FEATURE = {
    "conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7, "conv3_1": 10, "conv3_2": 12,
    "conv3_3": 14, "conv4_1": 17, "conv4_2": 19, "conv4_3": 21, "conv5_1": 24, "conv5_2": 26,
    "conv5_3": 28,
}  # fmt: skip
VGG_LAYERS = {
    **{f"features.{index}": name for name, index in VGG_FEATURE.items()},
    **{"classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "fc8"},
    **{"pre_logits.fc1": "fc6", "pre_logits.fc2": "fc7", "head.fc": "fc8"},
}
"""Layers of vgg16 of torchvision, and of timm where it differs -> Caffe names."""
PREFIXES = ("module.", "trunk.", "features.", "network.")


@dataclass
class Report:
    """Which keys of a state dict were used for which parameters of a network."""

    source: str
    used: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    sha256: str = ""
    """Digest of the weight file; empty where that is not known."""

    def __str__(self) -> str:
        digest = f" (SHA-256 {self.sha256})" if self.sha256 else ""
        lines = [f"weights from {self.source}{digest}"]
        for name in ("used", "reshaped", "missing", "unused"):
            keys = getattr(self, name)
            if len(keys) > 20:  # a whole network
                lines.append(f"{len(keys)} {name}: {keys[0]} ... {keys[-1]}")
            elif keys:
                lines.append(f"{len(keys)} {name}: {', '.join(keys)}")
        return "\n".join(lines)


def loader(load: Callable[[nn.Module, str], Report]) -> Callable[[nn.Module, str], Report]:
    """Let a function that copies published weights take "none" for its source, which copies
    nothing, and networks that `network.bands.widen` changed."""

    @wraps(load)
    def wrapper(network: nn.Module, source: str) -> Report:
        if source == "none":
            return Report(source)
        with narrow(network):
            return load(network, source)

    return wrapper


def subsample(weight: Tensor, shape: torch.Size) -> Tensor:
    """Subsample the weights of a fully connected layer, (outputs, inputs) or (outputs, channels, h,
    w), to those of a convolution whose `shape` is larger in no dimension.

    Source: the reduction that makes vgg16_20M from VGG16 (fc6 7 x 7 x 4096 -> 3 x 3 x 1024).
    """
    if weight.ndim == 2 and len(shape) == 4:
        side = isqrt(weight.shape[1] // shape[1]) if shape[2] > 1 else 1
        if side and weight.shape[1] % side**2 == 0:
            channels = weight.shape[1] // side**2
            weight = weight.reshape(weight.shape[0], channels, side, side)
    if weight.ndim != len(shape):
        raise UserError(f"cannot make {tuple(shape)} from {tuple(weight.shape)}")
    for axis, size in enumerate(shape):
        have = weight.shape[axis]
        if have < size:
            raise UserError(f"cannot make {tuple(shape)} from {tuple(weight.shape)}")
        # Channels: every n-th. Positions: evenly, including the edges.
        every = torch.arange(size) * (have // size)
        spread = torch.linspace(0, have - 1, size).round().long()
        weight = weight.index_select(axis, every if axis < 2 else spread)
    return weight


def caffe_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of torchvision's or timm's vgg16 to Caffe names; other keys stay.

    Checkpoints of SEC_pytorch have torchvision's trunk under a head with Caffe names.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    if "features.0.weight" not in state:
        return strip(state)
    parts = [key.rpartition(".") for key in state]
    names = [f"{VGG_LAYERS.get(layer, layer)}.{part}" for layer, _, part in parts]
    return dict(zip(names, state.values()))


def strip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes of wrapping modules from the keys."""
    for prefix in PREFIXES:
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def copy_weights(
    targets: dict[str, Tensor],
    state: dict[str, Tensor],
    report: Report,
    network: str,
    *,
    find: Callable[[str], str] = lambda key: key,
    reshape: Callable[[str, Tensor, Tensor], Tensor] = lambda key, value, target: value,
    optional: Callable[[str], bool] = lambda key: False,
) -> None:
    """Copy the tensors of a file into those of a network, and note which in a report.

    Where the first convolution sees more than R, G, B, the weights of further channels stay random.
    Files of torch before 0.4.1 lack the counters "num_batches_tracked", which nothing here reads.

    Args:
        report: gets the keys of `targets` that were used, reshaped and missing, and those of
            `state` that were not used.
        find: key in the file of a key of the network.
        reshape: makes a tensor of the file fit a target of another shape, or returns it unchanged.
        optional: keys of the network that the file may lack.

    Raises:
        UserError: where a tensor is missing or of another shape.
    """
    taken = set()
    with torch.no_grad():
        for key, target in targets.items():
            if find(key) not in state:
                report.missing.append(key)
                continue
            value = state[find(key)]
            if value.ndim == 4 and value.shape[1] == 3 < target.shape[1] and not report.reshaped:
                target = target[:, :3]
                report.reshaped.append(key)
            elif value.shape != target.shape:
                value = reshape(key, value, target)
                report.reshaped.append(key)
            if value.shape != target.shape:
                raise UserError(
                    f"{report.source} is not {network}: {key} is {tuple(value.shape)}, the network "
                    f"needs {tuple(target.shape)}; choose a recipe of the same width"
                )
            target.copy_(value)
            report.used.append(key)
            taken.add(find(key))
    report.unused = sorted(state.keys() - taken)
    lost = [k for k in report.missing if not optional(k) and not k.endswith("num_batches_tracked")]
    if lost:
        raise UserError(f"{report.source} is not {network}: it lacks {lost[0]}")


def without_colour(module: nn.Module) -> dict[str, Tensor]:
    """Tensors of a trunk but the mean and deviation of its colours."""
    state = module.state_dict(keep_vars=True)
    return {key: value for key, value in state.items() if not key.startswith("normalise.")}


@loader
def load_vgg(network: nn.Module, source: str) -> Report:
    """Copy VGG16 weights into a network whose layers carry Caffe names, but for its class scores.

    `source` is "none", "torchvision", "timm:NAME" or the path of a state dict (names of Caffe,
    torchvision, timm or SEC_pytorch); of the network's fc6 and fc7 it may lack any.
    """
    opened = open_source(source, "vgg16")
    opened.check_colour(network.trunk.normalise)
    report, state = Report(source, sha256=opened.sha256), caffe_names(opened.state)

    def layer(key: str) -> str:
        """Parallel branches fc6_1, fc6_2, ... all start from fc6."""
        name = key.partition(".")[0]
        return name.partition("_")[0] if name.startswith("fc") else name

    def find(key: str) -> str:
        return key if key in state else f"{layer(key)}.{key.partition('.')[2]}"

    def reshape(key: str, value: Tensor, target: Tensor) -> Tensor:
        return subsample(value, target.shape) if key.startswith("fc") else value

    layers = {key.removeprefix("trunk."): p for key, p in network.named_parameters()}
    targets = {key: p for key, p in layers.items() if layer(key) not in ("fc8", "score")}
    optional = lambda key: not key.startswith("conv")  # noqa: E731
    copy_weights(targets, state, report, "VGG16", find=find, reshape=reshape, optional=optional)
    return report


@loader
def load_resnet(network: nn.Module, source: str) -> Report:
    """Copy ResNet weights, with the statistics of their normalisation, into a network's `trunk`.

    `source` is "none", "torchvision", "timm:NAME" or the path of a state dict (their names).
    """
    depth = 101 if len(network.trunk.layer3) > 6 else 50  # they differ in the third stage only
    opened = open_source(source, f"resnet{depth}")
    opened.check_colour(network.trunk.normalise)
    report = Report(source, sha256=opened.sha256)
    copy_weights(without_colour(network.trunk), strip(opened.state), report, f"ResNet-{depth}")
    if more := [key for key in report.unused if key.startswith("layer")]:
        raise UserError(f"{source} is not ResNet-{depth}: it has {more[0]}")
    return report


def load_all(network: nn.Module, path: str, part: str = "") -> Report:
    """Copy every tensor of a checkpoint of train.py, or a state dict, of the same network.

    `part` names the part of the stored network that is wanted; empty: all of it.

    Raises:
        UserError: for an unusable file, or one of another network.
    """
    start = f"{part}." if part else ""
    stored = read_state(path).items()
    state = {key.removeprefix(start): value for key, value in stored if key.startswith(start)}
    wanted = network.state_dict()
    wrong = [key for key in wanted if key not in state or state[key].shape != wanted[key].shape]
    if wrong or len(state) != len(wanted):
        odd = (wrong or sorted(state.keys() - wanted.keys()))[0]
        raise UserError(
            f"{path} holds another network than this recipe's (they differ in {odd}): "
            "use the recipe and the classes that it was trained with"
        )
    network.load_state_dict(state)
    return Report(path, used=list(state), sha256=digest(Path(path)))
