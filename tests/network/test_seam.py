"""ResNet-38d under its public names, and SEAM's pixel correlation against its formula."""

from math import sqrt

import pytest
import torch
from networks import resnet, timm_trunk, wide
from torch import nn

from base import UserError
from base.tensor import over_peak, resize
from network.seam import CorrelationHead, SEAMNet, correlate, strongest, with_background
from network.wide import load_wide

NARROW = {"width": (8, 8, 8, 8, 8, 8, 12), "blocks": (2, 1, 3, 2)}


def test_published_network_has_the_public_names_and_shapes():
    with torch.device("meta"):
        trunk = wide()
    state = {k: tuple(v.shape) for k, v in trunk.state_dict().items() if "num_batches" not in k}
    assert state["conv1a.weight"] == (64, 3, 3, 3)
    assert state["b2.conv_branch1.weight"] == (128, 64, 1, 1)
    assert state["b2_2.conv_branch2a.weight"] == (128, 128, 3, 3)
    assert "b2_1.conv_branch1.weight" not in state
    assert state["b4_5.bn_branch2b1.running_mean"] == (512,)
    assert state["b5.conv_branch2a.weight"] == (512, 512, 3, 3)
    assert state["b5_2.conv_branch2b1.weight"] == (1024, 512, 3, 3)
    assert state["b6.conv_branch2b2.weight"] == (2048, 1024, 1, 1)
    assert state["b7.conv_branch2a.weight"] == (1024, 2048, 1, 1)
    assert state["bn7.running_var"] == (4096,)
    convolutions = [m for m in trunk.modules() if isinstance(m, nn.Conv2d)]
    # two in each of 15 blocks, three in each of 2, one at the entry, six shortcuts
    assert len(convolutions) == 15 * 2 + 2 * 3 + 1 + 6
    assert trunk.b5.conv_branch2a.dilation == (1, 1) and trunk.b5.conv_branch2b1.dilation == (2, 2)
    assert trunk.b5_1.conv_branch2a.dilation == (2, 2)
    assert trunk.b7.conv_branch2b1.dilation == (4, 4)
    assert trunk.b6.dropout.p == pytest.approx(0.3) and trunk.b7.dropout.p == 0.5


@pytest.mark.parametrize("size", [(64, 64), (41, 90)])
def test_stride_eight(size):
    trunk = wide(**NARROW).eval()
    stages = trunk.stages(torch.zeros(2, 3, *size, dtype=torch.uint8))
    grid = tuple(-(-side // 8) for side in size)
    assert [s.shape for s in stages] == [(2, width, *grid) for width in trunk.channels]
    assert all(s.min() >= 0 for s in stages)


def test_frozen_layers():
    trunk = wide(**NARROW).train()
    free = {name for name, p in trunk.named_parameters() if p.requires_grad}
    assert not any(name.startswith(("conv1a", "b2.", "b2_1")) or ".bn_" in name for name in free)
    assert "b3.conv_branch2a.weight" in free
    assert not any(m.training for m in trunk.modules() if isinstance(m, nn.BatchNorm2d))
    learning = wide(**NARROW, norm=True).train()
    assert all(p.requires_grad for p in learning.parameters())
    assert learning.bn7.training


def test_public_weights_load_by_path(tmp_path):
    torch.manual_seed(0)
    source, target = wide(**NARROW), SEAMNet(wide(**NARROW), 3)
    state = {
        k: torch.rand_like(v)
        for k, v in source.state_dict().items()
        if not k.startswith("normalise.") and "num_batches" not in k  # MXNet counts no batches
    }
    torch.save({**state, "linear1000.weight": torch.zeros(3)}, tmp_path / "a1.pth")
    report = load_wide(target, str(tmp_path / "a1.pth"))
    assert report.unused == ["linear1000.weight"] and len(report.used) == len(state)
    loaded = target.trunk.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in state.items())


def test_other_weights_are_refused(tmp_path):
    network = SEAMNet(wide(**NARROW), 3)
    with pytest.raises(UserError, match="torchvision has no"):
        load_wide(network, "torchvision")
    state = network.trunk.state_dict()
    state["b3.conv_branch2a.weight"] = torch.zeros(1, 1, 3, 3)
    torch.save(state, tmp_path / "thin.pth")
    with pytest.raises(UserError, match=r"b3.conv_branch2a.weight"):
        load_wide(network, str(tmp_path / "thin.pth"))


def slow_correlate(cam, feature):
    """Refined maps of one image: [c][place], from cam [c][place] and feature [d][place]."""
    places = range(len(feature[0]))
    length = [sqrt(sum(row[i] ** 2 for row in feature)) for i in places]

    def likeness(i, j):
        return max(0.0, sum(row[i] * row[j] for row in feature) / length[i] / length[j])

    return [
        [
            sum(row[i] * likeness(i, j) for i in places) / sum(likeness(i, j) for i in places)
            for j in places
        ]
        for row in cam
    ]


def test_correlate():
    rng = torch.Generator().manual_seed(2)
    cam = torch.rand(2, 3, 3, 4, generator=rng, dtype=torch.float64)
    feature = torch.randn(2, 5, 3, 4, generator=rng, dtype=torch.float64)
    found = correlate(cam, feature)
    for k in range(2):
        slow = slow_correlate(cam[k].flatten(1).tolist(), feature[k].flatten(1).tolist())
        torch.testing.assert_close(found[k].flatten(1), torch.tensor(slow, dtype=torch.float64))
    feature.requires_grad_()
    assert torch.autograd.gradcheck(lambda f: correlate(cam, f), feature)


def test_correlate_of_nothing_is_finite():
    found = correlate(torch.ones(1, 2, 3, 3), torch.zeros(1, 4, 3, 3, requires_grad=True))
    found.sum().backward()
    assert found.eq(0).all()


def test_maps_over_their_peak():
    cam = torch.tensor([[[[4.0, 2.0, -1.0]], [[1.0, 3.0, 0.0]], [[-2.0, -1.0, -3.0]]]])
    over = over_peak(cam)
    expected = torch.tensor([[[[1, 0.5, 0]], [[1 / 3, 1, 0]], [[0, 0, 0]]]])
    torch.testing.assert_close(over, expected)
    torch.testing.assert_close(with_background(over)[:, 0], torch.tensor([[[0.0, 0.0, 1.0]]]))
    only = torch.tensor([[[[0, 0, 1]], [[1, 0, 0]], [[0, 1, 0]], [[0, 0, 0]]]])
    torch.testing.assert_close(strongest(cam), only.to(torch.float32))


def test_all_stages_of_an_enlarged_image():
    trunk = timm_trunk("resnet10t", 16)
    network = SEAMNet(trunk, 3, CorrelationHead((4, 4), 0.0, join=True, enlarge=2.0))
    plain = SEAMNet(trunk, 3, CorrelationHead((4, 4), 0.0, join=True))
    plain.load_state_dict(network.state_dict())
    image = torch.randint(0, 256, (2, 3, 48, 32), dtype=torch.uint8)
    large = resize(image.float(), (96, 64), align_corners=True)
    for got, expected in zip(network(image), plain(large), strict=True):
        assert got.shape[-2:] == (6, 4)
        assert torch.equal(got, expected)
    assert network.fc8.weight.shape[1] == sum(trunk.channels)


def test_maps_of_normalised_features_may_be_low_everywhere():
    """Normalised features have the mean 0, and so would all maps of a batch without a bias."""
    network = SEAMNet(timm_trunk("resnet10t", 16), 3, CorrelationHead((4, 4), 0.0, join=True))
    image = torch.randint(0, 256, (2, 3, 48, 32), dtype=torch.uint8)
    torch.testing.assert_close(network(image)[0].mean((0, 2, 3)), network.fc8.bias)
    assert not SEAMNet(timm_trunk("resnet10t", 16), 3, CorrelationHead((4, 4))).fc8.bias


@pytest.mark.parametrize("backbone", ["resnet38d", "resnet50"])
def test_the_refined_maps_teach_the_affinities_alone(backbone):
    torch.manual_seed(0)
    narrow = {
        "resnet38d": wide(norm=True, **NARROW),
        "resnet50": resnet((4, 2, 2, 3, 4), norm=True),
    }
    trunk = narrow[backbone]
    network = SEAMNet(trunk, 3, CorrelationHead((4, 8)))
    image = torch.randint(0, 256, (2, 3, 40, 56), dtype=torch.uint8)
    cam, refined = network(image)
    assert cam.shape == (2, 3, 5, 7) and refined.shape == (2, 4, 5, 7)
    assert refined.min() >= 0 and refined.max() <= 1 + 1e-5
    refined.square().sum().backward()
    taught = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert taught == {"f8_3", "f8_4", "f9"}
