"""DeepLab-v3+: published shapes, multi-grid, a fourth channel that reaches both ends."""

import pytest
import torch
from networks import resnet
from torch import nn
from torch.nn.functional import interpolate
from torchvision import models

from network.deeplabv3 import Decoder, DecoderHead, DeepLabV3Plus
from network.weight import load_resnet

TINY = {"width": (4, 2, 2, 3, 4), "blocks": (1, 2, 1, 1)}
OS16 = {"stride": (2, 2, 2, 2, 1), "dilation": (1, 1, 1, 2)}


@pytest.mark.parametrize("size", [(32, 32), (33, 50), (97, 64)])
def test_logits_have_the_first_stage_s_size(size):
    network = DeepLabV3Plus(resnet(**TINY, **OS16), 5, DecoderHead(3, 8)).eval()
    logit = network(torch.zeros(2, 3, *size, dtype=torch.uint8))
    assert logit.shape == (2, 5, -(-size[0] // 4), -(-size[1] // 4))


def test_published_sizes():
    trunk = resnet(blocks=(3, 4, 23, 3), multigrid=(1, 2, 4), **OS16)
    network = DeepLabV3Plus(trunk, 21, DecoderHead(48))
    rates = [block.conv2.dilation[0] for block in network.trunk.layer4]
    assert rates == [2, 4, 8]
    assert [conv[0].dilation[0] for conv in network.decoder.aspp.convs[1:4]] == [6, 12, 18]
    assert network.decoder.join[0][0].in_channels == 304
    drops = [m.p for m in network.decoder.modules() if isinstance(m, nn.Dropout)]
    assert drops == [0.5, 0.5, 0.1]
    assert network.decoder.score.bias is not None


def test_last_convolution_without_bias():
    decoder = Decoder((2, 4, 8), 5, DecoderHead(48, 8), kernel=3, bias=False)
    assert decoder.score.kernel_size == (3, 3) and decoder.score.bias is None
    features = torch.zeros(1, 2, 24, 30), torch.zeros(1, 4, 12, 15), torch.zeros(1, 8, 3, 4)
    assert decoder.eval()(features).shape[-2:] == (12, 15)


def test_fine_logits_see_the_first_stage():
    torch.manual_seed(0)
    decoder = Decoder((2, 4, 8), 5, DecoderHead(48, 8, fine=True)).eval()
    sizes = (2, 24, 30), (4, 12, 15), (8, 3, 4)
    features = [torch.rand(1, *size) for size in sizes]
    logit = decoder(features)
    assert logit.shape == (1, 5, 24, 30)
    features[0][0, :, 12, 15] += 100
    changed = (decoder(features) != logit)[0].any(0).nonzero()
    # One 3 x 3 convolution lies between the first stage and the logits.
    assert changed.min(0).values.tolist() == [11, 14]
    assert changed.max(0).values.tolist() == [13, 16]


def test_multi_grid_is_the_last_stage_s_alone():
    trunk = resnet(blocks=(1, 1, 4, 4), dilation=(1, 1, 2, 4), multigrid=(1, 2))
    assert [b.conv2.dilation[0] for b in trunk.layer4] == [4, 8, 8, 8]
    assert {b.conv2.dilation[0] for b in trunk.layer3} == {2}


def test_stages_are_the_trunk_cut_in_five():
    trunk = resnet(width=TINY["width"], blocks=(2, 1, 3, 2)).eval()
    image = torch.randint(0, 256, (1, 3, 50, 67), dtype=torch.uint8)
    found = trunk.stages(image)
    assert [f.shape[1] for f in found] == list(trunk.channels)
    assert torch.equal(found[-1], trunk(image))
    assert torch.equal(found[1], trunk(image, last="layer1.1"))


def test_the_prompt_reaches_stem_and_pyramid():
    torch.manual_seed(0)
    trunk = resnet(extra=1, **TINY, **OS16)
    network = DeepLabV3Plus(trunk, 1, DecoderHead(3, 8), extra=1).eval()
    image = torch.rand(2, 4, 48, 64)
    image[:, :3] *= 255
    seen = []
    network.decoder.aspp.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    network.trunk.conv1.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    network(image)
    stem, pyramid = seen
    assert torch.equal(stem[:, 3], image[:, 3])
    torch.testing.assert_close(stem[:, :3], network.trunk.normalise(image[:, :3]))
    small = interpolate(image[:, 3:], (3, 4), mode="bilinear", align_corners=True)
    torch.testing.assert_close(pyramid[:, -1:], small)
    torch.testing.assert_close(pyramid[:, -1, -1, -1], image[:, 3, -1, -1])


def test_released_weights_fit_a_trunk_with_a_fourth_channel(tmp_path):
    torch.save(models.resnet50(weights=None).state_dict(), tmp_path / "resnet50.pth")
    network = DeepLabV3Plus(resnet(extra=1), 1, DecoderHead(48, 8), extra=1)
    start = network.trunk.conv1.weight[:, 3].clone()
    report = load_resnet(network, str(tmp_path / "resnet50.pth"))
    assert report.missing == [] and report.reshaped == ["conv1.weight"]
    state = torch.load(tmp_path / "resnet50.pth", weights_only=True)
    assert torch.equal(network.trunk.conv1.weight[:, :3], state["conv1.weight"])
    assert torch.equal(network.trunk.conv1.weight[:, 3], start)
