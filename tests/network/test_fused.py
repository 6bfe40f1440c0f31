"""Fused convolutions give what the modules give one by one."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from network.fused import fuse, fused
from network.trunk import Timm

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_convolution_pointwise"), reason="torch without oneDNN"
)


class Shared(nn.Module):
    """A convolution whose output is also used without the normalisation that follows."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.relu = (
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
        )

    def forward(self, x):
        raw = self.conv(x)
        return self.relu(self.norm(raw)) + raw


def statistics(network: nn.Module) -> nn.Module:
    """Statistics and weights that are not those of a network that never learned."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.weight.data, module.bias.data):
                tensor += 0.2 * torch.randn(tensor.shape, generator=generator)
            module.running_var.mul_(1 + torch.rand(module.running_var.shape, generator=generator))
    return network.eval()


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18"])
def test_a_fused_network_gives_the_same(name):
    torch.manual_seed(0)
    trunk = statistics(Timm(model=name, weights="none").trunk())
    state = {key: value.clone() for key, value in trunk.state_dict().items()}
    image = 255 * torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        expected = trunk.stages(image)
        with fused(trunk, lambda: trunk.stages(image[:1])):
            changed = [m for m in trunk.modules() if "forward" in vars(m)]
            assert sum(isinstance(m, nn.Conv2d) for m in changed) > 15
            for got, wanted in zip(trunk.stages(image), expected):
                torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
        assert not any("forward" in vars(module) for module in trunk.modules())
        assert all(torch.equal(a, b) for a, b in zip(trunk.stages(image), expected))
    assert all(torch.equal(value, state[key]) for key, value in trunk.state_dict().items())


def test_what_others_use_is_not_fused():
    torch.manual_seed(0)
    network, image = statistics(Shared()), torch.rand(1, 3, 8, 8)
    expected = network(image)
    assert fuse(network, lambda: [network(image)]) == []
    assert torch.equal(network(image), expected)


def test_normalisation_that_learns_is_not_fused():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    image = torch.rand(2, 3, 8, 8)
    assert fuse(network, lambda: [network(image)]) == []


def test_threads_share_one_fused_copy_of_a_frozen_trunk(monkeypatch):
    trunk = Timm(model="resnet10t", weights="none").trunk().eval().requires_grad_(False)
    copies = []
    monkeypatch.setattr("network.trunk.fuse", lambda network, run: copies.append(run()))
    image = torch.zeros(1, 3, 64, 64)
    with ThreadPoolExecutor(4) as pool:
        networks = set(pool.map(lambda _: trunk.chosen_network(image), range(8)))
    assert len(copies) == len(networks) == 1
