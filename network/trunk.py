"""Any timm network as a trunk of features, and a classifier with activation maps on it."""

import difflib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from base import UserError
from base.file import digest
from network.depthwise import speed_up
from network.frozen import FrozenNorm
from network.fused import fuse
from network.normalise import Normalise
from network.package import from_package, in_order
from network.source import Source, from_timm, from_torchvision, read_state
from network.weight import Report, copy_weights, loader

FIRST_STRIDE = 4
"""Stages of smaller strides are left out: they are large, and only some networks have them."""
COPYING = Lock()
"""Held while a trunk is copied: threads that run the same one wait for the copy of the first."""


@dataclass(frozen=True)
class Timm:
    """Any network of timm that gives features of its stages."""

    model: str = "tf_efficientnet_lite0"
    """timm's name of the network."""
    weights: str = "package"
    """Start from: package (what an installed pip package contains), timm or torchvision (which
    download), none, or the path of a state dict."""
    output_stride: int = 16
    """Stride of the last stage: 8, 16 or 32; the last stages are dilated for it."""
    norm: bool = False
    """Batch normalisation learns its statistics; without, it keeps those of the weights."""
    frozen_stride: int = 0
    """Stages up to this stride keep the weights that they start from; 0: all stages learn."""

    def trunk(self, extra: int = 0) -> "TimmTrunk":
        """Build the trunk, without weights; `extra` channels of the image follow R, G, B."""
        from network.transformer import Transformer, is_transformer  # which builds on this file

        if is_transformer(self.model):
            return Transformer(**vars(self)).trunk(extra)
        return TimmTrunk(self, extra)

    def load(self, network: nn.Module) -> Report:
        """Copy `weights` into a network that holds the trunk; returns the report of keys."""
        return load_timm(network, self.weights)


class TimmTrunk(FrozenNorm):
    """The stages of a timm network at strides 4, 8, 16 and, dilated or not, the last.

    `extra` channels of the image follow R, G, B and reach the first convolution as they are. Scale
    and shift of the normalisation learn even where its statistics stay.

    Attributes:
        channels, stride: of each stage; strides rise, and the second is 8.
        normalise: mean and deviation of the network's pretrained configuration, or of the weights
            loaded into it.

    Raises:
        UserError: for a name that timm does not know (with near ones), a network without stages or
            one that takes images of one size only, and a stride it cannot have.
    """

    def __init__(self, config: Timm = Timm(), extra: int = 0) -> None:
        super().__init__()
        self.name, self.norm, self.extra = config.model, config.norm, extra
        self.copy: tuple[list, nn.Module] | None = None
        """The network with fused convolutions, and the tensors that it was made of."""
        facts = self.build(config.output_stride)
        mean, std = (tuple(255 * value for value in facts[key]) for key in ("mean", "std"))
        self.normalise = Normalise((mean, std, "RGB"))
        self.check_stages(config.output_stride)
        if config.frozen_stride:
            self.freeze(config.frozen_stride)

    def build(self, output_stride: int) -> dict[str, Any]:
        """Make `network`, `channels` and `stride`; returns what timm knows of the weights."""
        self.network = build_stages(self.name, output_stride, 3 + self.extra)
        speed_up(self.network)
        info = self.network.feature_info
        self.channels, self.stride = tuple(info.channels()), tuple(info.reduction())
        return self.network.pretrained_cfg or self.network.default_cfg

    def check_stages(self, output_stride: int) -> None:
        """Check strides and channels against those that timm states, with a small oblong image.

        Raises:
            UserError: where strides or channels are not those that timm states.
        """
        side = max(output_stride, 32)
        shape = (2 * side + side // 4, 3 * side)
        training = self.training
        try:
            with torch.no_grad():
                features = self.eval().network(torch.zeros(1, 3 + self.extra, *shape))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"timm's {self.name} does not take images of any size ({first_line(error)}): "
                "choose a convolutional network, such as tf_efficientnet_lite0 or resnet50"
            ) from error
        self.train(training)
        if self.stride[:2] != (FIRST_STRIDE, 2 * FIRST_STRIDE):
            raise UserError(
                f"timm's {self.name} has no stages of strides 4, 8, 16 (its own are "
                f"{', '.join(map(str, self.stride))}): choose a network that has, such as resnet50"
            )
        for feature, width, stride in zip(features, self.channels, self.stride):
            near = all(abs(n - size / stride) <= 1 for n, size in zip(feature.shape[2:], shape))
            if feature.shape[1] != width or not near:
                raise UserError(
                    f"timm's {self.name} gives features {tuple(feature.shape)} where its "
                    f"description says {width} channels at stride {stride}: choose another network"
                )

    def freeze(self, stride: int) -> None:
        """Let the layers that the stages up to a stride are made of keep their weights."""
        side, training = 2 * max(self.stride[-1], 32), self.training
        features = self.eval().stages(torch.zeros(1, 3 + self.extra, side, side))
        self.train(training)
        last = [x for x, own in zip(features, self.stride) if own <= stride][-1:]
        parameters = list(self.network.parameters())
        for x in last:
            used = torch.autograd.grad(x.sum(), parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, used):
                parameter.requires_grad_(gradient is None)

    def stages(self, image: Tensor) -> list[Tensor]:
        """Features of every stage, (N, channels[k], h, w), of images with extra channels.

        Images are RGB 0..255, (N, 3 + extra, H, W). UserError where they are smaller.
        """
        if min(image.shape[-2:]) < self.stride[-1]:
            height, width = image.shape[-2:]
            raise UserError(
                f"an image of {height} x {width} pixels is smaller than the stride of {self.name}, "
                f"{self.stride[-1]}: leave it out, or enlarge it"
            )
        return list(self.chosen_network(image)(self.inputs(image)))

    def chosen_network(self, image: Tensor) -> nn.Module:
        """`network`, or a faster copy on a CPU where no layer of it learns."""
        learns = (self.training and self.norm) or any(p.requires_grad for p in self.parameters())
        if learns or torch.compiler.is_compiling() or image.device.type != "cpu":
            return self.network
        tensors = [*self.network.parameters(), *self.network.buffers()]
        version = [(x.data_ptr(), 0 if x.is_inference() else x._version) for x in tensors]
        with COPYING:
            if self.copy is None or self.copy[0] != version:
                side = 2 * max(self.stride[-1], 32)
                example = torch.linspace(-2, 2, (3 + self.extra) * side**2)
                example = example.view(1, -1, side, side)
                copy = deepcopy(self.network).eval().requires_grad_(False)
                fuse(copy, lambda: copy(example))
                self.copy = version, copy
            return self.copy[1]

    def forward(self, image: Tensor) -> Tensor:
        """Features of the last stage, (N, channels[-1], h, w), of images as above."""
        return self.stages(image)[-1]


def average(maps: Tensor) -> Tensor:
    """Mean (N, C) of each of the maps (N, C, h, w)."""
    return maps.mean(dim=(2, 3))


class ClassMaps(nn.Module):
    """Classifier without hidden layers, whose class activation maps have the trunk's last stride.

    Args:
        dropout: probability of dropping whole channels of the features.
        join: classify all stages of the trunk, each channel normalised over the batch, instead of
            the last stage.
        pool: makes logits (N, num_tags) of maps (N, num_tags, h, w).

    Source: Zhou et al., CVPR 2016 (CAM), in the form of IRN and RecurSeed: a 1 x 1 convolution,
    then the average. Differs: a bias; `join`, and any pooling but the average, are ours.
    """

    new = ("score",)

    def __init__(
        self,
        trunk: nn.Module,
        num_tags: int,
        dropout: float = 0.2,
        join: bool = False,
        pool: Callable[[Tensor], Tensor] = average,
    ):
        super().__init__()
        self.trunk, self.pool = trunk, pool
        self.channels = sum(trunk.channels) if join else trunk.channels[-1]
        self.all_stages = JoinedStages(self.channels) if join else None
        self.dropout = nn.Dropout2d(dropout)
        self.score = nn.Conv2d(self.channels, num_tags, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Class logits (N, num_tags) of RGB images 0..255, (N, 3, H, W), or of their `features`."""
        return self.pool(self.cam(image))

    def cam(self, image: Tensor) -> Tensor:
        """Class activation maps before any cut, (N, num_tags, h, w); any real numbers."""
        feature = image if image.shape[1] == self.channels else self.features(image)
        return self.score(self.dropout(self.normalised(feature)))

    def normalised(self, feature: Tensor) -> Tensor:
        """What is classified, of what `features` gave."""
        return feature if self.all_stages is None else self.all_stages.norm(feature)

    def features(self, image: Tensor) -> Tensor:
        """What the trunk gives, not yet normalised, (N, channels, h, w)."""
        if self.all_stages is None:
            return self.trunk(image)
        return self.all_stages.join(self.trunk.stages(image))


class JoinedStages(nn.Module):
    """Features of all stages on the grid of the last, each of the `channels` normalised."""

    def __init__(self, channels: int):
        super().__init__()
        # Without momentum the running statistics are those of all batches since the start.
        self.norm = nn.BatchNorm2d(channels, momentum=None, affine=False)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Join features (N, C, H, W) of falling size to (N, channels, h, w)."""
        return self.norm(self.join(stages))

    def join(self, stages: Sequence[Tensor]) -> Tensor:
        """The same, not yet normalised."""
        size = stages[-1].shape[-2:]
        return torch.cat([adaptive_avg_pool2d(stage, size) for stage in stages], dim=1)


def build_stages(name: str, output_stride: int, channels: int) -> nn.Module:
    """Stages of a timm network, without weights; raises as `TimmTrunk`."""
    import timm

    plain = name.partition(".")[0]
    if not timm.is_model(plain):
        near = difflib.get_close_matches(plain, timm.list_models(), 5, 0.4)
        advice = f"; near names are {', '.join(near)}" if near else ""
        raise UserError(f"timm has no network '{name}'{advice}")
    options = {"features_only": True, "in_chans": channels, "pretrained": False}
    errors = []
    # Some networks have no dilation and do not accept the argument.
    for stride in ({"output_stride": output_stride}, {}):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # for names that timm has renamed
                network = timm.create_model(name, **options, **stride)
        except (TypeError, AssertionError, RuntimeError, NotImplementedError, AttributeError) as e:
            errors.append(e)
            continue
        strides = network.feature_info.reduction()
        if strides[-1] > output_stride and len(set(strides)) > 1:
            raise UserError(
                f"timm's {name} cannot run at stride {output_stride}: give {strides[-1]}, or "
                "another network"
            )
        wanted = [k for k, own in enumerate(strides) if own >= FIRST_STRIDE]
        if len(wanted) == len(strides):
            return network
        return timm.create_model(name, out_indices=wanted, **options, **stride)
    raise UserError(f"timm's {name} gives no features of its stages ({first_line(errors[-1])})")


@contextmanager
def recordable() -> Iterator[None]:
    """Let torch.export record timm's TensorFlow-like padding for images of any size.

    timm rounds with `math.ceil`, which cannot be recorded; whole numbers give the same.
    """

    def same_padding(length: int, kernel: int, stride: int, dilation: int) -> int:
        reach = (kernel - 1) * dilation + 1 - stride
        if stride == 1:
            return reach
        outputs = (length + stride - 1) // stride
        padding = reach + outputs * stride - length
        # Without the maximum, sizes of later layers stay short formulas: it takes a tenth of the
        # time.
        return padding if reach >= 0 else torch.sym_max(padding, 0)

    with patch("timm.layers.padding.get_same_padding", same_padding):
        yield


@loader
def load_timm(network: nn.Module, source: str) -> Report:
    """Copy ImageNet weights into a network's `trunk`.

    Mean and deviation become those of the weights where these are known.

    Args:
        source: "none"; "package", from an installed pip package; "timm" or "torchvision",
            downloaded; or the path of a state dict with the names of timm or of the packages.

    Raises:
        UserError: for weights that cannot be loaded, or are of another network.
    """
    import timm

    trunk = network.trunk
    plain = trunk.name.partition(".")[0]
    opened = open_timm(source, trunk.name)
    if opened.colour is not None:
        for buffer, value in zip((trunk.normalise.mean, trunk.normalise.std), opened.colour):
            buffer.copy_(torch.tensor(value).view_as(buffer))
    report = Report(opened.name, sha256=opened.sha256)
    state = {key.removeprefix("module."): value for key, value in opened.state.items()}
    # timm renames the tensors of stages that it lists one by one, or wraps.
    names = {key.replace(".", "_", 1): key for key in state}
    names |= {f"model.{key}": key for key in state} | {key: key for key in state}
    targets, what = trunk.network.state_dict(keep_vars=True), f"timm's {plain}"
    copy_weights(targets, state, report, what, find=lambda key: names.get(key, key))
    with torch.device("meta"):
        whole = timm.create_model(plain).state_dict()
    if more := [key for key in report.unused if key not in whole]:
        raise UserError(f"{source} is not {what}: it has {more[0]}")
    return report


def open_timm(source: str, name: str) -> Source:
    """Get the weights of a timm network, under its names; `source` as of `load_timm`."""
    plain = name.partition(".")[0]
    if source == "package":
        return from_package(plain)
    if source == "timm":
        return from_timm(name)
    if source == "torchvision":
        from torchvision import models

        if plain not in models.list_models():
            raise UserError(f"torchvision has no network {plain}: give other weights, such as timm")
        return from_torchvision(plain)
    state = read_state(source)
    if "_conv_stem.weight" in state:
        state = in_order(state, plain)
    return Source(source, state, digest(Path(source)))


def first_line(error: Exception) -> str:
    """First line of an error's message, at most 120 characters."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:120]
