"""Start a network from published weights, key by key, with a report of what went where."""

from dataclasses import dataclass, field
from math import isqrt
from pathlib import Path

import torch
from torch import Tensor, nn

from base import UserError
from network.source import digest, open_source, read_state

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
    """What became of the keys of a state dict and of a network's parameters."""

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


def subsample(weight: Tensor, shape: torch.Size) -> Tensor:
    """Thin out a fully connected layer's weights evenly to a smaller convolution's shape.

    Args:
        weight: (outputs, inputs) or (outputs, channels, h, w).
        shape: target, (outputs', channels', h', w'), no dimension larger than the source's.

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
        # Channels: every n-th. Places: from edge to edge.
        every = torch.arange(size) * (have // size)
        spread = torch.linspace(0, have - 1, size).round().long()
        weight = weight.index_select(axis, every if axis < 2 else spread)
    return weight


def caffe_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the keys of torchvision's or timm's vgg16 their Caffe names; others pass unchanged.

    Checkpoints of SEC_pytorch have torchvision's trunk under a head with Caffe names.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    if "features.0.weight" not in state:
        return strip(state)
    renamed = {}
    for key, value in state.items():
        layer, _, kind = key.rpartition(".")
        renamed[f"{VGG_LAYERS.get(layer, layer)}.{kind}"] = value
    return renamed


def strip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys without the names of the modules that networks were wrapped in."""
    for prefix in PREFIXES:
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def load_vgg(network: nn.Module, source: str, skip: tuple[str, ...] = ("fc8", "score")) -> Report:
    """Copy VGG16 weights into a network whose layers carry Caffe names.

    Args:
        network: holds conv1_1 ... conv5_3 (in `trunk`), and maybe fc6 and fc7.
        source: "none", "torchvision", "timm:NAME" or the path of a state dict; names of Caffe,
            torchvision, timm or SEC_pytorch.
        skip: layers that keep their random start.

    Returns:
        Which keys were used, reshaped, missing in the file, unused.

    Errors: UserError for an unusable file, or one that lacks a convolution of the network.
    """
    if source == "none":
        return Report(source)
    found = open_source(source, "vgg16")
    found.check_colour(network.trunk.normalise)
    report = Report(source, sha256=found.sha256)
    plain = caffe_names(found.state)
    taken: set[str] = set()
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            short = key.removeprefix("trunk.")
            layer, _, kind = short.partition(".")
            # Parallel branches fc6_1, fc6_2, ... all start from fc6.
            stem = layer.partition("_")[0] if layer.startswith("fc") else layer
            if stem in skip:
                continue
            value = plain.get(short, plain.get(f"{stem}.{kind}"))
            if value is None:
                report.missing.append(short)
                continue
            if value.shape != parameter.shape:
                if not short.startswith("fc"):
                    raise UserError(
                        f"{source}: {short} is {tuple(value.shape)}, the network needs "
                        f"{tuple(parameter.shape)}; choose a recipe of the same width"
                    )
                value = subsample(value, parameter.shape)
                report.reshaped.append(short)
            parameter.copy_(value)
            report.used.append(short)
            taken |= {short, f"{stem}.{kind}"}
    report.unused = sorted(plain.keys() - taken)
    if lost := [key for key in report.missing if key.startswith("conv")]:
        raise UserError(f"{source} is no VGG16: it lacks {lost[0]}")
    return report


def load_resnet(network: nn.Module, source: str) -> Report:
    """Copy ResNet weights, with the statistics of their normalisation, into a network's `trunk`.

    Where the first convolution sees more than R, G, B, its weights of further channels keep their
    random start.

    Args:
        network: holds a `network.resnet.ResNetTrunk` as `trunk`.
        source: "none", "torchvision", "timm:NAME" or the path of a state dict (their names).

    Returns:
        Which keys were used, reshaped (the first convolution), missing in the file, unused.

    Errors: UserError for an unusable file, or one of another shape.
    """
    if source == "none":
        return Report(source)
    depth = 101 if len(network.trunk.layer3) > 6 else 50  # they differ in the third stage alone
    found = open_source(source, f"resnet{depth}")
    found.check_colour(network.trunk.normalise)
    report = Report(source, sha256=found.sha256)
    plain = strip(found.state)
    with torch.no_grad():
        for key, target in network.trunk.state_dict(keep_vars=True).items():
            if key.startswith("normalise."):
                continue
            value = plain.pop(key, None)
            if value is None:
                report.missing.append(key)
                continue
            if key == "conv1.weight" and target.shape[1] > value.shape[1] == 3:
                target = target[:, :3]
                report.reshaped.append(key)
            if value.shape != target.shape:
                raise UserError(
                    f"{source}: {key} is {tuple(value.shape)}, the network needs "
                    f"{tuple(target.shape)}; choose a recipe of the same width"
                )
            target.copy_(value)
            report.used.append(key)
    report.unused = sorted(plain)
    # Older files do not count batches, and nothing here needs the count.
    if lost := [key for key in report.missing if not key.endswith("num_batches_tracked")]:
        raise UserError(f"{source} is no ResNet-{depth}: it lacks {lost[0]}")
    if more := [key for key in report.unused if key.startswith("layer")]:
        raise UserError(f"{source} is no ResNet-{depth}: it has {more[0]}")
    return report


def load_weights(network: nn.Module, source: str) -> Report:
    """Copy published weights into a network with a VGG16 or ResNet `trunk`; see the two loaders."""
    load = load_resnet if hasattr(network.trunk, "layer1") else load_vgg
    return load(network, source)


def load_all(network: nn.Module, path: str, part: str = "") -> Report:
    """Copy every tensor of a checkpoint of the same network, heads and statistics too.

    Args:
        network: any.
        path: checkpoint of train.py or a state dict.
        part: name of the part of the stored network that is wanted; empty: all of it.

    Errors: UserError for an unusable file, or one of another network.
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
