"""Convolutions that also normalise and activate, in one step of oneDNN, for prediction on a CPU."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from network.depthwise import Depthwise

ACTIVATIONS: dict[type, tuple[str, list[float]]] = {
    nn.Identity: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
}
"""What oneDNN computes with a convolution, by its names and their numbers."""
CLOSE = 1e-3
"""Largest difference of a fused network's output, as a share of the largest value: rounding is a
thousand times smaller."""


@contextmanager
def fused(network: nn.Module, run: Callable[[], Sequence[Tensor]]) -> Iterator[None]:
    """`fuse` for the time of the block."""
    changed = fuse(network, run)
    try:
        yield
    finally:
        release(changed)


@torch.inference_mode(False)
@torch.no_grad()
def fuse(network: nn.Module, run: Callable[[], Sequence[Tensor]]) -> list[nn.Module]:
    """Let convolutions of a network do the normalisation and the activation that follow them.

    Modules and the state dict stay as they are; only `forward` of some modules changes, for a
    network whose weights do not change and whose normalisation is in evaluation mode. Does nothing
    for networks on a GPU, and where torch has no oneDNN.

    Args:
        network: on its device.
        run: calls the network with an example. Which module follows which is seen in this call; a
            second one checks that the results are the same but for rounding.

    Returns:
        The modules that changed, for `release`.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    on_cpu = all(parameter.device.type == "cpu" for parameter in network.parameters())
    if not norms or not on_cpu or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return []
    expected = run()  # before hooks are there, as it may copy the network
    follows = watch(network, run)
    changed: list[nn.Module] = []
    for conv in network.modules():
        norm = follows.get(conv)
        plain = type(conv) in (nn.Conv2d, Depthwise) or pads_itself(conv)
        if not plain or isinstance(conv.padding, str) or conv.padding_mode != "zeros":
            continue
        if not isinstance(norm, _BatchNorm) or norm.training:
            continue
        activation = getattr(norm, "act", None)  # timm's layers of both
        if activation is None:
            activation, follower = nn.Identity(), follows.get(norm)
            if follower is not None and type(follower) in ACTIVATIONS:
                activation = follower
                follower.forward = unchanged  # type: ignore[method-assign]
                changed.append(follower)
        known = type(activation) in ACTIVATIONS
        norm.forward = unchanged if known else activation
        conv.forward = fused_forward(conv, norm, activation if known else nn.Identity())
        changed += [norm, conv]
    pairs = zip(run(), expected) if changed else ()
    if all((found - x).abs().max() <= CLOSE * x.abs().max() for found, x in pairs):
        return changed
    release(changed)
    return []


def release(changed: Sequence[nn.Module]) -> None:
    """Undo `fuse`."""
    for module in changed:
        del module.forward


def unchanged(x: Tensor) -> Tensor:
    """The argument: what a fused convolution leaves to do."""
    return x


def watch(network: nn.Module, run: Callable[[], Sequence[Tensor]]) -> dict[nn.Module, nn.Module]:
    """For each module the only one that takes all that it gives in a call.

    Convolutions, normalisation and activations are looked at.
    """
    # Holds the tensors, whose ids stay their own. Versions tell what was added to one in place.
    given: dict[int, tuple[Tensor, int, nn.Module]] = {}
    pairs: Counter = Counter()
    calls: Counter = Counter()

    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        calls[module] += 1
        _, version, first = given.get(id(inputs[0]), (None, 0, None))
        if first is not None and inputs[0]._version == version:
            pairs[first, module] += 1

    def leave(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        given[id(output)] = output, output._version, module

    hooks = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | _BatchNorm | nn.ReLU | nn.ReLU6):
            hooks.append(module.register_forward_pre_hook(enter))
            hooks.append(module.register_forward_hook(leave))
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return {
        first: second
        for (first, second), count in pairs.items()
        if count == calls[first] == calls[second]
    }


def pads_itself(module: nn.Module) -> bool:
    """Whether a module is timm's convolution with TensorFlow's padding."""
    return type(module).__name__ == "Conv2dSame"


def fused_forward(
    conv: nn.Conv2d, norm: _BatchNorm, activation: nn.Module
) -> Callable[[Tensor], Tensor]:
    """A convolution, the normalisation and the activation after it as one function."""
    factor = torch.rsqrt(norm.running_var + norm.eps)
    bias = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
    if norm.affine:
        factor = factor * norm.weight
    bias = bias * factor + (norm.bias if norm.affine else 0)
    weight = conv.weight * factor[:, None, None, None]
    weight = weight.detach().contiguous(memory_format=torch.channels_last)
    bias, padding, convolve = bias.detach(), conv.padding, torch.ops.mkldnn._convolution_pointwise
    numbers = conv.stride, conv.dilation, conv.groups, *ACTIVATIONS[type(activation)], ""
    if not pads_itself(conv):
        return lambda x: convolve(x, weight, bias, padding, *numbers)
    from timm.layers.padding import pad_same

    size = conv.kernel_size, conv.stride, conv.dilation
    return lambda x: convolve(pad_same(x, *size), weight, bias, (0, 0), *numbers)
