"""Trunks that take more than three bands start from the weights for R, G and B."""

import pytest
import torch
from torch import nn

from base import UserError
from method.backbone import Timm
from method.preset import SMALL_RESNET, SMALL_RESNET38D, SMALL_VGG16
from network.bands import first_convolution, narrow, picture_channels, widen
from network.normalise import CONVENTION, Normalise

MEAN, DEVIATION = (100.0, 110.0, 120.0, 60.0, 70.0), (50.0, 40.0, 30.0, 20.0, 10.0)
BACKBONES = {
    "vgg": SMALL_VGG16, "resnet": SMALL_RESNET, "resnet38d": SMALL_RESNET38D,
    "timm": Timm(weights="none"),
}  # fmt: skip


@pytest.mark.parametrize("name", BACKBONES)
def test_further_channels_start_from_the_mean(name):
    trunk = BACKBONES[name].trunk().eval()
    before = first_convolution(trunk).weight.detach().clone()
    # In pictures whose bands have the deviation of photographs, and equal extra bands ...
    mean, std = trunk.normalise.mean.flatten(), trunk.normalise.std.flatten()
    image = torch.rand(2, 3, 64, 96) * 255
    expected = trunk.stages(image)
    widen(trunk, MEAN, DEVIATION)
    assert picture_channels(trunk) == 5
    after = first_convolution(trunk).weight
    assert torch.equal(after[:, :3], before)
    assert torch.allclose(after[:, 3:], before.mean(1, keepdim=True).expand(-1, 2, -1, -1))
    # ... at their mean, nothing changes: they add 0.
    seen = (image - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)  # what the weights saw
    own = trunk.normalise
    wide = torch.cat(
        [seen * own.std[:, :3] + own.mean[:, :3], own.mean[:, 3:].expand(2, 2, 64, 96)], 1
    )
    for found, wanted in zip(trunk.stages(wide), expected):
        assert torch.allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("convention", CONVENTION)
def test_bands_get_mean_and_deviation_of_photographs(convention):
    trunk = nn.Module()
    trunk.conv, trunk.normalise = nn.Conv2d(3, 4, 3), Normalise(convention)
    _, std, order = CONVENTION[convention]
    widen(trunk, MEAN, DEVIATION)
    shape = (1, 5, 1, 1)
    mean, deviation = (torch.tensor(row).view(shape) for row in (MEAN, DEVIATION))
    assert trunk.normalise(mean).abs().max() < 1e-5
    one = trunk.normalise(mean + deviation).flatten()
    seen = torch.tensor(CONVENTION["torchvision"][1])[[2, 1, 0] if order == "BGR" else [0, 1, 2]]
    assert torch.allclose(one[:3], seen / torch.tensor(std), atol=1e-4)
    # Bands stay in their order; the order of colours is that of the weights.
    first = trunk.normalise(mean + torch.tensor([1.0, 0, 0, 0, 0]).view(shape) * deviation)
    assert first.flatten().abs().argmax() == (2 if order == "BGR" else 0)


def test_a_prompt_keeps_its_start():
    trunk = SMALL_RESNET.trunk(extra=1)
    before = trunk.conv1.weight.detach().clone()
    widen(trunk, MEAN, DEVIATION)
    assert trunk.conv1.weight.shape[1] == 6
    assert torch.equal(trunk.conv1.weight[:, 5], before[:, 3])
    image, prompt = torch.rand(1, 5, 64, 64) * 255, torch.rand(1, 1, 64, 64)
    one, other = (trunk(torch.cat([image, p], 1)) for p in (prompt, 0 * prompt))
    assert (one - other).abs().max() > 0


def test_published_weights_are_loaded_as_for_three(tmp_path):
    torch.manual_seed(3)
    source = SMALL_RESNET.trunk()
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    network = nn.Module()
    network.trunk = SMALL_RESNET.trunk()
    widen(network, MEAN, DEVIATION)
    from network.weight import loader

    @loader
    def load(network, path):
        return network.trunk.load_state_dict(torch.load(path, weights_only=True))

    load(network, tmp_path / "weights.pt")
    weight = network.trunk.conv1.weight
    assert torch.equal(weight[:, :3], source.conv1.weight)
    assert torch.allclose(weight[:, 4], source.conv1.weight.mean(1))
    assert network.trunk.conv1.in_channels == 5 and weight.requires_grad
    with narrow(network):
        assert network.trunk.conv1.in_channels == 3
        assert torch.equal(network.trunk.normalise.mean, source.normalise.mean)
    assert picture_channels(network.trunk) == 5


def test_package_weights_with_bands():
    backbone = Timm()
    network = nn.Module()
    network.trunk = backbone.trunk()
    plain = nn.Module()
    plain.trunk = backbone.trunk()
    widen(network, MEAN, DEVIATION)
    backbone.load(network)
    backbone.load(plain)
    found, wanted = (first_convolution(n.trunk).weight for n in (network, plain))
    assert torch.equal(found[:, :3], wanted) and torch.allclose(found[:, 3], wanted.mean(1))
    # The package's weights were trained on images over 128.
    one = network.trunk.normalise(
        torch.tensor([a + b for a, b in zip(MEAN, DEVIATION)]).view(1, 5, 1, 1)
    )
    assert torch.allclose(
        one.flatten()[:3], torch.tensor(CONVENTION["torchvision"][1]) / 128, atol=1e-3
    )


def test_other_beginnings_are_refused():
    trunk = nn.Module()
    trunk.first, trunk.normalise = nn.Linear(3, 3), Normalise()
    with pytest.raises(UserError, match="takes three bands only"):
        widen(trunk, MEAN, DEVIATION)
