"""VGG16 networks: shapes of the published layers, and weights by name."""

import hashlib

import pytest
import torch
from networks import vgg
from torchvision import models

from base import UserError
from network.cue import BackgroundCueHead, BackgroundCueNet, ForegroundCueHead, ForegroundCueNet
from network.vgg import LargeFOV, LargeFOVHead
from network.weight import load_vgg, read_state, subsample


@pytest.mark.parametrize(
    "size, grid", [((321, 321), (41, 41)), ((97, 64), (13, 8)), ((1, 1), (1, 1))]
)
def test_grid_is_the_size_over_eight_rounded_up(size, grid):
    network = LargeFOV(vgg((2,) * 5), 7, LargeFOVHead(4)).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, *size)).shape == (1, 7, *grid)


def test_published_layers():
    network = LargeFOV(vgg(), 21)
    shape = {name: tuple(p.shape) for name, p in network.named_parameters()}
    assert shape["trunk.conv5_3.weight"] == (512, 512, 3, 3)
    assert shape["fc6.weight"] == (1024, 512, 3, 3)
    assert shape["fc7.weight"] == (1024, 1024, 1, 1)
    assert shape["fc8.weight"] == (21, 1024, 1, 1)
    assert network.fc6.dilation == (12, 12) and network.trunk.conv5_1.dilation == (2, 2)
    convolutions, fc6, fc7, fc8 = 14_714_688, 4_719_616, 1_049_600, 21_525
    assert sum(p.numel() for p in network.parameters()) == convolutions + fc6 + fc7 + fc8
    assert network.fc8.bias.abs().max() == 0
    assert network.fc8.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert type(network.dropout) is torch.nn.Dropout and network.dropout.p == 0.5


def test_cue_networks_share_a_grid():
    small = {"width": (2,) * 5, "dilation": (1,) * 5}
    image = torch.zeros(2, 3, 321, 321)
    foreground = ForegroundCueNet(vgg(pool=(2, 2, 2, 0, 0), **small), 5, ForegroundCueHead(4))
    background = BackgroundCueNet(
        vgg(pool=(2,) * 5, pool_size=2, **small), 5, (321, 321), BackgroundCueHead(4)
    )
    assert foreground.cam(image).shape == (2, 5, 41, 41)
    assert background.saliency(image).shape == (2, 41, 41)
    assert foreground(image).shape == background(image).shape == (2, 5)


def test_cam_averages_to_the_logits():
    network = ForegroundCueNet(vgg((2,) * 5, pool=(2, 2, 2, 0, 0)), 5, ForegroundCueHead(4)).eval()
    image = torch.rand(2, 3, 40, 56) * 255
    assert torch.allclose(network.cam(image).mean((2, 3)), network(image), atol=1e-6)


@pytest.mark.parametrize(
    "style, std, new", [("sec", 0.005, ("score",)), ("mxnet", 0.01, ("fc6", "fc7", "score"))]
)
def test_heads_of_the_cue_networks(style, std, new):
    width, shape = (2, 2, 2, 2, 16), {"hidden": 64, "style": style}
    foreground = ForegroundCueNet(vgg(width, pool=(2, 2, 2, 0, 0)), 9, ForegroundCueHead(**shape))
    background = BackgroundCueNet(
        vgg(width, pool=(2,) * 5, pool_size=2), 9, (64, 64), BackgroundCueHead(**shape)
    )
    for network in (foreground, background):
        assert network.new == new
        for name in ("fc6", "fc7", "score"):
            found = network.get_submodule(name).weight.std().item()
            assert found == pytest.approx(std, rel=0.15)
    assert (foreground.score.bias is None) == (style == "sec")
    assert background.score.bias is not None
    image = torch.rand(1, 3, 64, 64) * 255
    # SEC's fc7 is linear: its features may be negative.
    assert (foreground.eval().feature(image).min() < 0) == (style == "sec")


def test_trunk_in_two_halves():
    trunk = vgg(width=(2, 3, 4, 5, 6), pool=(2, 2, 2, 2, 2), pool_size=2)
    image = torch.rand(1, 3, 48, 33) * 255
    half = trunk(image, last="conv4_1")
    assert torch.equal(trunk(half, first="conv4_1"), trunk(image))


def test_torchvision_weights_land_in_caffe_layers(tmp_path):
    source = models.vgg16()
    torch.save(source.state_dict(), tmp_path / "vgg16.pth")
    network = LargeFOV(vgg(), 5)
    before = network.fc8.weight.clone()
    report = load_vgg(network, str(tmp_path / "vgg16.pth"))
    assert torch.equal(network.trunk.conv4_2.weight, source.features[19].weight)
    assert torch.equal(network.fc8.weight, before)
    full = source.classifier[0].weight.reshape(4096, 512, 7, 7)
    assert torch.equal(network.fc6.weight, full[::4][:, :, ::3, ::3])
    assert torch.equal(network.fc7.weight[:, :, 0, 0], source.classifier[3].weight[::4, ::4])
    assert set(report.reshaped) == {"fc6.weight", "fc6.bias", "fc7.weight", "fc7.bias"}
    assert not report.missing and report.unused == ["fc8.bias", "fc8.weight"]


def test_sec_pytorch_checkpoint(tmp_path):
    trunk = models.vgg16().features.state_dict()
    state = {f"module.features.{key}": value for key, value in trunk.items()}
    source = LargeFOV(vgg(), 5)
    for name in ("fc6", "fc7", "fc8"):
        for key, value in source.get_submodule(name).state_dict().items():
            state[f"module.{name}.{key}"] = value
    path = tmp_path / "sec.pth"
    torch.save({"state_dict": state}, path)
    network = LargeFOV(vgg(), 5)
    report = load_vgg(network, str(path))
    assert torch.equal(network.trunk.conv5_3.weight, trunk["28.weight"])
    assert torch.equal(network.fc6.weight, source.fc6.weight)
    assert not report.missing and not report.reshaped
    assert report.unused == ["fc8.bias", "fc8.weight"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() in str(report)


def test_weights_that_do_not_fit(tmp_path):
    network = LargeFOV(vgg((2,) * 5), 5, LargeFOVHead(4))
    torch.save({"layer1.weight": torch.zeros(1)}, tmp_path / "resnet.pt")
    torch.save({"conv1_1.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "wide.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("no")
    for name in ("resnet.pt", "wide.pt", "list.pt", "text.pt", "missing.pt"):
        with pytest.raises(UserError, match=name):
            load_vgg(network, str(tmp_path / name))


def test_nothing_is_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"conv1_1.weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match="evil"):
        read_state(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_subsample_takes_every_nth():
    weight = torch.arange(8 * 49 * 2.0).reshape(8, 98)
    thin = subsample(weight, torch.Size((4, 2, 3, 3)))
    assert torch.equal(thin, weight.reshape(8, 2, 7, 7)[::2, :, ::3, ::3])
