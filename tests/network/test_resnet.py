"""ResNet-50: torchvision's layers to the bit, published strides, statistics that stay frozen."""

import pytest
import torch
from networks import random_statistics, resnet
from torch import nn
from torchvision import models

from base import UserError
from network.cue import BackgroundCueHead, BackgroundCueNet, ForegroundCueHead, ForegroundCueNet
from network.resnet import ResNetFOV
from network.vgg import LargeFOVHead
from network.weight import load_resnet

HEAD = BackgroundCueHead(8, dropout=0.0, style="mxnet", layer="layer2.1")
TINY = {"width": (4, 2, 2, 3, 4), "blocks": (1, 2, 1, 1)}
IMAGE = torch.randint(0, 256, (2, 3, 50, 67), dtype=torch.uint8)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """torchvision's ResNet-50 with random weights and statistics, and its state dict on disk."""
    torch.manual_seed(0)
    network = models.resnet50(weights=None)
    random_statistics(network)
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(network.state_dict(), path)
    return network.eval(), path


def test_same_features_as_torchvision(released):
    network, path = released
    ours = ResNetFOV(resnet(stride=(2,) * 5, dilation=(1,) * 4), 5, LargeFOVHead(8)).eval()
    report = load_resnet(ours, str(path))
    assert report.missing == [] and report.unused == ["fc.bias", "fc.weight"]
    with torch.no_grad():
        x = ours.trunk.normalise(IMAGE)
        x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = network.get_submodule(name)(x)
        assert torch.equal(ours.trunk(IMAGE), x)


def test_weights_of_another_shape_are_refused(released):
    with pytest.raises(UserError, match="choose a recipe of the same width"):
        load_resnet(ResNetFOV(resnet(**TINY), 5, LargeFOVHead(8)), str(released[1]))


def test_published_strides_and_dilations():
    trunk = resnet()
    rates = {
        name: {m.dilation[0] for m in trunk.get_submodule(name).modules() if is_3x3(m)}
        for name in ("layer1", "layer2", "layer3", "layer4")
    }
    assert rates == {"layer1": {1}, "layer2": {1}, "layer3": {2}, "layer4": {4}}
    assert trunk.channels[-1] == 2048
    assert sum(p.numel() for p in trunk.parameters()) == 23_508_032  # ResNet-50 without its fc


def is_3x3(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)


@pytest.mark.parametrize("size", [(32, 32), (33, 50), (321, 320)])
def test_grid_is_an_eighth_rounded_up(size):
    network = ResNetFOV(resnet(**TINY), 5, LargeFOVHead(8))
    logit = network(torch.zeros(2, 3, *size))
    assert logit.shape == (2, 5, -(-size[0] // 8), -(-size[1] // 8))


def test_statistics_stay_frozen_but_for_training_from_scratch():
    for norm in (False, True):
        network = ResNetFOV(resnet(norm=norm, **TINY), 5, LargeFOVHead(8)).train()
        before = network.trunk.bn1.running_mean.clone()
        network(IMAGE)
        assert torch.equal(network.trunk.bn1.running_mean, before) is not norm


def test_foreground_maps_average_to_the_logits():
    network = ForegroundCueNet(
        resnet(dilation=(1,) * 4, **TINY), 4, ForegroundCueHead(8, style="mxnet")
    ).eval()
    nn.init.normal_(network.score.bias)
    maps = network.cam(IMAGE)
    assert maps.shape == (2, 4, 7, 9)
    torch.testing.assert_close(maps.mean(dim=(2, 3)) + network.score.bias, network(IMAGE))


def test_background_saliency_is_the_gradient_after_the_block():
    trunk = resnet(stride=(2,) * 5, dilation=(1,) * 4, norm=True, **TINY)
    network = BackgroundCueNet(trunk, 4, (50, 67), HEAD, adapt=True).eval()
    saliency = network.saliency(IMAGE)
    assert saliency.shape == (2, 7, 9)
    feature = network.trunk(IMAGE, last="layer2.1").detach().requires_grad_()
    network.classify(feature).sum().backward()
    torch.testing.assert_close(saliency, feature.grad.abs().amax(1))
    assert saliency.max() > 0
