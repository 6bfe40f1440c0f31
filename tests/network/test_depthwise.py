"""Gradients of depthwise convolutions are those of torch."""

import pytest
import torch
from networks import timm_trunk
from torch import nn

from network.depthwise import Depthwise, from_phases, speed_up, to_phases


@pytest.mark.parametrize("size", [(6, 8), (7, 9), (1, 2)])
@pytest.mark.parametrize("step", [2, 3])
def test_phases_are_undone(size, step):
    x = torch.randn(2, 3, *size)
    parts = to_phases(x, step)
    assert parts.shape[:2] == (2 * step**2, 3)
    assert torch.equal(parts[1, :, 0, 0], x[0, :, 0, 1])
    assert torch.equal(from_phases(parts, step, size), x)


@pytest.mark.parametrize("kernel, dilation", [(3, 2), (5, 2), (3, 3), (5, 1), (7, 1), (7, 2)])
@pytest.mark.parametrize("size", [(10, 15), (7, 4)])
def test_gradients_are_those_of_torch(kernel, dilation, size):
    torch.manual_seed(0)
    padding = dilation * (kernel // 2)
    plain = nn.Conv2d(16, 16, kernel, 1, padding, dilation, 16, bias=False)
    own = nn.Conv2d(16, 16, kernel, 1, padding, dilation, 16, bias=False)
    own.load_state_dict(plain.state_dict())
    speed_up(own)
    assert type(own) is Depthwise
    results = []
    for module in (plain, own):
        x = torch.randn(3, 16, *size, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y = module(x.contiguous(memory_format=torch.channels_last))
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        results.append((y.detach(), x.grad, module.weight.grad))
    assert torch.equal(results[0][0], results[1][0])
    for expected, got in zip(results[0][1:], results[1][1:]):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_other_convolutions_stay():
    others = [
        nn.Conv2d(8, 8, 3, 1, 2, 2, 8),  # a bias
        nn.Conv2d(8, 8, 3, 1, 2, 2, 4, bias=False),
        nn.Conv2d(8, 16, 3, 1, 2, 2, 8, bias=False),
        nn.Conv2d(8, 8, 3, 2, 2, 2, 8, bias=False),
        nn.Conv2d(8, 8, 3, 1, 1, 1, 8, bias=False),
        nn.Conv2d(8, 8, 3, 1, 1, 2, 8, bias=False),
    ]
    speed_up(nn.Sequential(*others))
    assert all(type(module) is nn.Conv2d for module in others)
    trunk = timm_trunk("tf_efficientnet_lite0", output_stride=16)
    assert sum(isinstance(m, Depthwise) for m in trunk.modules()) == 9
