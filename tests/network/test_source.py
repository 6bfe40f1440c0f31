"""Weights by name: torchvision, timm and files, each with its digest and its colours."""

import hashlib

import pytest
import timm
import torch
from hostile import caffemodel
from networks import resnet, vgg
from torchvision import models

from base import UserError
from base.file import digest
from network.resnet import ResNetFOV
from network.source import open_source
from network.vgg import LargeFOV, LargeFOVHead
from network.weight import caffe_names, load_resnet, load_vgg

CREATE = timm.create_model


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """timm's hub as a file of random weights: `create_model` reads it instead of the network."""

    def fill(name, **facts):
        network = CREATE(name, pretrained=False)
        path = tmp_path / "released.pth"
        torch.save(network.state_dict(), path)

        def create(name, pretrained):
            overlay = {"file": str(path), **facts}
            return CREATE(name, pretrained=pretrained, pretrained_cfg_overlay=overlay)

        monkeypatch.setattr(timm, "create_model", create)
        return network, path

    return fill


def test_resnet_of_timm(hub):
    released, path = hub("resnet50")
    network = ResNetFOV(resnet(), 5, LargeFOVHead(8))
    report = load_resnet(network, "timm:resnet50")
    assert torch.equal(network.trunk.layer4[2].conv3.weight, released.layer4[2].conv3.weight)
    assert torch.equal(network.trunk.bn1.running_var, released.bn1.running_var)
    assert report.missing == [] and report.unused == ["fc.bias", "fc.weight"]
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    lines = str(report).splitlines()
    assert lines[0] == f"weights from timm:resnet50 (SHA-256 {report.sha256})"
    assert lines[1].startswith("318 used: conv1.weight ... layer4.2.bn3.")
    assert "layer4.2.conv3.weight" in report.used
    assert lines[2] == "2 unused: fc.bias, fc.weight"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet101", "it has layer3"),
        ("resnet26", "it lacks layer1.2"),
        ("resnet50d", r"layer1.0.downsample.1.weight is \(256, 64, 1, 1\), the network needs"),
    ],
)
def test_another_resnet_of_timm(hub, name, reason):
    hub(name)
    with pytest.raises(UserError, match=f"^timm:{name} is not ResNet-50: {reason}"):
        load_resnet(ResNetFOV(resnet(), 5, LargeFOVHead(8)), f"timm:{name}")


def test_other_colours_are_refused(hub):
    hub("resnet50", mean=(0.5, 0.5, 0.5))
    with pytest.raises(UserError, match=r"expects RGB with mean \[128, 128, 128\]"):
        load_resnet(ResNetFOV(resnet(), 5, LargeFOVHead(8)), "timm:resnet50")
    hub("resnet50")
    match = "the convention 'caffe' is another: give --convention torchvision"
    with pytest.raises(UserError, match=match):
        load_resnet(ResNetFOV(resnet(convention="caffe"), 5, LargeFOVHead(8)), "timm:resnet50")


def test_vgg_names_of_timm():
    ours = LargeFOV(vgg(), 5)
    renamed = caffe_names(CREATE("vgg16", pretrained=False).state_dict())
    wanted = {k.removeprefix("trunk.") for k, _ in ours.named_parameters()}
    assert renamed.keys() == wanted
    assert renamed["fc6.weight"].shape == (4096, 512, 7, 7)


def test_timm_offline_and_unknown(monkeypatch):
    def offline(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError, match=r"timm:resnet50 could not be downloaded \(Name or"):
        open_source("timm:resnet50", "resnet50")
    with pytest.raises(UserError, match=r"timm has no weights 'resnet50\.mine'; it has resnet50"):
        open_source("timm:resnet50.mine", "resnet50")
    with pytest.raises(UserError, match=r"timm has no weights 'nonet'$"):
        open_source("timm:nonet", "resnet50")


def test_timm_not_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(UserError, match="pip install timm"):
        open_source("timm:resnet50", "resnet50")


@pytest.mark.parametrize("old", [False, True])
def test_caffemodel(tmp_path, old):
    small = {"width": (2, 3, 3, 4, 4), "convention": "caffe"}
    source, network = (LargeFOV(vgg(**small), 3, LargeFOVHead(5)) for _ in range(2))
    state = {k.removeprefix("trunk."): v.detach() for k, v in source.named_parameters()}
    state["fc7.weight"] = state["fc7.weight"].flatten(1)  # Caffe's inner product
    path = tmp_path / "vgg16_20M.caffemodel"
    path.write_bytes(caffemodel({key: value.numpy() for key, value in state.items()}, old))
    report = load_vgg(network, str(path))
    assert report.missing == [] and report.unused == ["fc8.bias", "fc8.weight"]
    for key, value in network.named_parameters():
        if not key.startswith("fc8"):
            assert torch.equal(value, source.get_parameter(key))
    with pytest.raises(UserError, match=r"expects BGR .* give --convention caffe"):
        load_vgg(LargeFOV(vgg((2, 3, 3, 4, 4)), 3, LargeFOVHead(5)), str(path))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"\.caffemodel: not a state dict .*cut off"):
        load_vgg(network, str(path))


def test_torchvision_with_digest(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    weights = models.ResNet50_Weights.IMAGENET1K_V1
    file = tmp_path / "checkpoints" / weights.url.rpartition("/")[2]
    file.parent.mkdir()
    torch.save(models.resnet50(weights=None).state_dict(), file)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    report = load_resnet(ResNetFOV(resnet(), 5, LargeFOVHead(8)), "torchvision")
    assert report.sha256 == found and len(report.used) == 318


def test_torchvision_offline(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UserError, match=r"resnet50 weights could not be downloaded \(no route"):
        open_source("torchvision", "resnet50")


def test_digest_of_nothing(tmp_path):
    assert digest(tmp_path / "none.pth") == ""
