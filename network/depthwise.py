"""Depthwise convolutions that learn faster on a CPU."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

convolution_backward = torch.ops.aten.convolution_backward


def to_phases(x: Tensor, step: int) -> Tensor:
    """Sort the pixels of (N, C, H, W) by row and column modulo `step`, filled up with 0:
    (N step^2, C, ceil(H / step), ceil(W / step)), channels last."""
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


def weight_gradient(x: Tensor, gradient: Tensor, kernel: int) -> Tensor:
    """Gradient (C, 1, kernel, kernel) of the weight of a depthwise convolution that keeps the size.

    `x` went in, `gradient` is that of what came out, (N, C, H, W). oneDNN is fast at kernels of 3:
    larger ones are put together of these, where they overlap by one, if `kernel` is odd.
    """
    channels, height, width = gradient.shape[1:]
    half = kernel // 2
    x = pad(x, (half, half, half, half))
    weight = x.new_empty(channels, 1, kernel, kernel)
    for top in range(0, kernel - 1, 2):
        for left in range(0, kernel - 1, 2):
            part = x[:, :, top : top + height + 2, left : left + width + 2]
            rows, columns = slice(top, top + 3), slice(left, left + 3)
            weight[:, :, rows, columns] = convolution_backward(
                gradient, part.contiguous(memory_format=torch.channels_last),
                weight[:, :, rows, columns], None, [1, 1], [0, 0], [1, 1], False, [0, 0], channels,
                [False, True, False],
            )[1]  # fmt: skip
    return weight


class DepthwiseBackward(torch.autograd.Function):
    """A depthwise convolution, its gradients in the forms that oneDNN is fast at.

    Pixels whose rows and columns are equal modulo the dilation meet only each other, so that the
    gradients are those of a convolution without dilation.
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
        step, size, half = ctx.dilation, x.shape[-2:], weight.shape[-1] // 2
        to_x = to_weight = None
        if step > 1:
            x, gradient = to_phases(x, step), to_phases(gradient, step)
        if ctx.needs_input_grad[0]:
            to_x = conv2d(gradient, weight.flip(2, 3), None, 1, half, 1, len(weight))
            if step > 1:
                to_x = from_phases(to_x, step, size)
        if ctx.needs_input_grad[1]:
            to_weight = weight_gradient(x, gradient, weight.shape[-1])
        return to_x, to_weight, None


class Depthwise(nn.Conv2d):
    """`nn.Conv2d` of one channel each, its size kept; `speed_up` makes it of others."""

    def forward(self, x: Tensor) -> Tensor:
        learns = self.weight.requires_grad and torch.is_grad_enabled()
        cast = torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
        if not learns or cast or x.device.type != "cpu":
            return super().forward(x)
        return DepthwiseBackward.apply(x, self.weight, self.dilation[0])


def speed_up(network: nn.Module) -> None:
    """Make `Depthwise` of the convolutions of a network that profit."""
    for module in network.modules():
        if type(module) is not nn.Conv2d or module.bias is not None:
            continue
        (side, other), dilation = module.kernel_size, module.dilation[0]
        same = side == other and side % 2 and module.dilation == (dilation, dilation)
        same = same and module.padding == (dilation * (side // 2),) * 2
        alone = module.groups == module.in_channels == module.out_channels
        if same and alone and side > 1 and max(dilation, side // 2) > 1 and module.stride == (1, 1):
            module.__class__ = Depthwise
