"""Released names: a synthetic state dict of the released names and shapes lands where it should."""

from itertools import count

import pytest
import torch
from networks import resnet
from torch import Tensor

from base import UserError
from network.convert import load_released
from network.deeplabv3 import DecoderHead, DeepLabV3Plus
from network.rsepm import RSEPM

OS16 = {"stride": (2, 2, 2, 2, 1), "dilation": (1,) * 4, "norm": True}


NUMBERS = count(1)


def tensor(*shape: int) -> Tensor:
    """A tensor of one number that no other has; it takes no room, in memory or on disk."""
    return torch.tensor(float(next(NUMBERS))).expand(shape)


def block(name: str, inputs: int, outputs: int, kernel: int) -> dict[str, Tensor]:
    """A convolution without bias and its normalisation, under the released names."""
    state = {f"{name}.conv.weight": tensor(outputs, inputs, kernel, kernel)}
    return state | norm(f"{name}.bn", outputs)


def norm(name: str, channels: int) -> dict[str, Tensor]:
    state = {f"{name}.{key}": tensor(channels) for key in ("weight", "bias", "running_mean")}
    state[f"{name}.running_var"] = tensor(channels)
    state[f"{name}.num_batches_tracked"] = torch.tensor(7)
    return state


def trunk(depth: tuple[int, ...]) -> dict[str, Tensor]:
    state = {"model.conv1.weight": tensor(64, 3, 7, 7)} | norm("model.bn1", 64)
    channels = 64
    for stage, (inner, blocks) in enumerate(zip((64, 128, 256, 512), depth), 1):
        for k in range(blocks):
            name = f"model.layer{stage}.{k}"
            shapes = ((inner, channels, 1), (inner, inner, 3), (4 * inner, inner, 1))
            for n, (outputs, inputs, side) in enumerate(shapes, 1):
                state[f"{name}.conv{n}.weight"] = tensor(outputs, inputs, side, side)
                state |= norm(f"{name}.bn{n}", outputs)
            if k == 0:
                state[f"{name}.downsample.0.weight"] = tensor(4 * inner, channels, 1, 1)
                state |= norm(f"{name}.downsample.1", 4 * inner)
            channels = 4 * inner
    return state


def head(classes: int, low: int) -> dict[str, Tensor]:
    state = block("aspp.aspp1", 2048, 256, 1)
    for k in (2, 3, 4):
        state |= block(f"aspp.aspp{k}", 2048, 256, 3)
    state |= block("aspp.global_avg_pool.1", 2048, 256, 1) | block("aspp.block.0", 1280, 256, 1)
    state |= block("decoder.low_block", 256, low, 1)
    state |= block("decoder.classifier.0", 256 + low, 256, 3)
    state |= block("decoder.classifier.2", 256, 256, 3)
    return state | {"decoder.classifier.4.weight": tensor(classes, 256, 3, 3)}


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    torch.manual_seed(0)
    state = trunk((3, 4, 6, 3)) | {"classifier.weight": tensor(20, 2048, 1, 1)} | head(21, 256)
    path = tmp_path_factory.mktemp("released") / "single.pth"
    torch.save({f"module.{key}": value for key, value in state.items()}, path)
    return state, path


def test_every_tensor_of_the_single_stage_network_is_filled(single):
    state, path = single
    network = RSEPM(resnet(**OS16), 21)
    report, table = load_released(network, str(path))
    assert report.unused == [] and len(table) == len(state)
    ours = network.state_dict()
    assert set(table.values()) == {key for key in ours if "normalise" not in key}
    assert table.keys() == state.keys()  # without the prefix of DataParallel
    for theirs, name in table.items():
        assert torch.equal(ours[name], state[theirs])
    assert table["aspp.aspp3.conv.weight"] == "decoder.aspp.convs.2.0.weight"
    assert network.decoder.aspp.convs[2][0].dilation == (12, 12)
    assert torch.equal(network.decoder.score.weight, state["decoder.classifier.4.weight"])


def test_last_stage_network(tmp_path):
    state = trunk((3, 4, 23, 3)) | head(21, 48)
    torch.save(state | {"extra.weight": torch.zeros(1)}, tmp_path / "last.pth")
    trunk101 = resnet(blocks=(3, 4, 23, 3), **OS16)
    network = DeepLabV3Plus(trunk101, 21, DecoderHead(48), kernel=3, bias=False)
    report, table = load_released(network, str(tmp_path / "last.pth"))
    assert report.unused == ["extra.weight"] and len(table) == len(state)


def test_refusals_leave_the_network_alone(single, tmp_path):
    state, path = single
    network = RSEPM(resnet(**OS16), 11)
    before = network.classifier.weight.clone()
    with pytest.raises(UserError, match=r"classifier.weight is \(20, 2048, 1, 1\)"):
        load_released(network, str(path))
    part = {key: value for key, value in state.items() if "low_block" not in key}
    torch.save(part, tmp_path / "part.pth")
    # The convolution and its normalisation, whose count of batches may be absent.
    message = f"it lacks 5 of {len(state)} tensors, the first is decoder.reduce.0.weight"
    with pytest.raises(UserError, match=message):
        load_released(RSEPM(resnet(**OS16), 21), str(tmp_path / "part.pth"))
    assert torch.equal(network.classifier.weight, before)
