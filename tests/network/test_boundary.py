"""Boundary network: every stage has its say, a frozen trunk stays as it is."""

import torch
from networks import resnet

from network.boundary import Boundary, BoundaryHead

TINY = {"width": (4, 2, 2, 3, 4), "blocks": (1, 1, 1, 1)}


def test_logits_at_the_stem_s_size_from_all_stages():
    network = Boundary(resnet(stride=(2, 2, 2, 2, 1), **TINY), BoundaryHead(8, frozen=False)).eval()
    logit = network(torch.zeros(2, 3, 33, 50, dtype=torch.uint8))
    assert logit.shape == (2, 1, 9, 13)
    assert network.score.in_channels == 40
    logit.sum().backward()
    for name in network.new:
        weight = next(network.get_submodule(name).parameters())
        assert weight.grad is not None


def test_a_frozen_trunk_learns_nothing():
    network = Boundary(resnet(**TINY), BoundaryHead(8)).train()
    before = {key: value.clone() for key, value in network.trunk.state_dict().items()}
    network(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)).sum().backward()
    assert all(p.grad is None for p in network.trunk.parameters())
    assert network.take1[0].weight.grad.abs().sum() > 0
    assert all(torch.equal(value, before[key]) for key, value in network.trunk.state_dict().items())
