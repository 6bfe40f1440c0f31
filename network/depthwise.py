"""Dilated depthwise convolutions that learn faster on a CPU."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad


def to_phases(x: Tensor, step: int) -> Tensor:
    """Sort the pixels of (N, C, H, W) by row and column modulo `step`.

    Returns:
        (N step^2, C, ceil(H / step), ceil(W / step)), filled up with 0, channels last.
    """
    height, width = x.shape[-2:]
    x = pad(x, (0, -width % step, 0, -height % step)).permute(0, 2, 3, 1)
    number, height, width, channels = x.shape
    parts = x.reshape(number, height // step, step, width // step, step, channels)
    parts = parts.permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(-1, height // step, width // step, channels).permute(0, 3, 1, 2)


def from_phases(x: Tensor, step: int, size: tuple[int, int]) -> Tensor:
    """Undo `to_phases`: (N, C, *size), channels last."""
    channels, height, width = x.shape[1:]
    parts = x.permute(0, 2, 3, 1).reshape(-1, step, step, height, width, channels)
    parts = parts.permute(0, 3, 1, 4, 2, 5).reshape(-1, height * step, width * step, channels)
    return parts[:, : size[0], : size[1]].permute(0, 3, 1, 2)


class DilatedBackward(torch.autograd.Function):
    """A dilated depthwise convolution whose gradients are those of one without dilation.

    Pixels whose rows and columns are equal modulo the dilation meet only each other. oneDNN has
    gradients of dilated depthwise convolutions, but slow ones.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dilation = dilation
        padding = dilation * (weight.shape[-1] // 2)
        return conv2d(x, weight, None, 1, padding, dilation, len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        step, half = ctx.dilation, weight.shape[-1] // 2
        to_x, to_weight, _ = torch.ops.aten.convolution_backward(
            to_phases(gradient, step), to_phases(x, step), weight, None, [1, 1], [half, half],
            [1, 1], False, [0, 0], len(weight), [*ctx.needs_input_grad[:2], False],
        )  # fmt: skip
        if to_x is not None:
            to_x = from_phases(to_x, step, x.shape[-2:])
        return to_x, to_weight, None


class DilatedDepthwise(nn.Conv2d):
    """`nn.Conv2d` of one channel each, dilated, its size kept; `speed_up` makes it of others."""

    def forward(self, x: Tensor) -> Tensor:
        plain = not torch.is_grad_enabled() or x.device.type != "cpu"
        if plain or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
            return super().forward(x)
        return DilatedBackward.apply(x, self.weight, self.dilation[0])


def speed_up(network: nn.Module) -> None:
    """Make `DilatedDepthwise` of the convolutions of a network that can be one."""
    for module in network.modules():
        if type(module) is not nn.Conv2d or module.bias is not None:
            continue
        (side, other), dilation = module.kernel_size, module.dilation[0]
        same = side == other and side % 2 and module.dilation == (dilation, dilation)
        same = same and module.padding == (dilation * (side // 2),) * 2
        alone = module.groups == module.in_channels == module.out_channels
        if same and alone and dilation > 1 and module.stride == (1, 1):
            module.__class__ = DilatedDepthwise
