"""DSRG's own pieces: growing in the stage, merging of scales, the start of retraining."""

import pytest
import torch
from networks import vgg
from torch import nn
from torchvision import models

from base import IGNORE, UserError
from base.contract import Context
from loss import floor_softmax
from method.dsrg import DSRG
from method.segment import Retrain
from method.target import class_map
from network.deeplabv2 import PyramidHead, ResNetPyramid, VGGPyramid
from network.weight import load_vgg
from refine import grow_seeds
from utils import checkpoint


@pytest.fixture
def grow(make, scenes_cue):
    """Builds a stage of the first step."""
    return lambda **changes: make(DSRG, cue=str(scenes_cue), **changes)


def batch_of(stage, count=3):
    samples = [stage.dataset()[k] for k in range(count)]
    return {key: torch.stack([s[key] for s in samples]) for key in ("image", "tag", "cue")}


@pytest.mark.parametrize("crf_input", ["score", "logit"])
def test_seeds_grow_by_the_marginals_of_the_chosen_energy(grow, crf_input, monkeypatch):
    stage = grow(crf_input=crf_input, threshold_foreground=0.4, threshold_background=0.4)
    batch = batch_of(stage)
    seen = []

    def crf(energy, image, kernels, steps):
        seen.append(energy)
        return torch.softmax(-5 * energy, dim=1)

    monkeypatch.setattr("method.refinement.crf_torch.mean_field", crf)
    score = floor_softmax(torch.randn(3, stage.num_classes, *batch["cue"].shape[2:]))
    marginal, seed = stage.targets(batch, score, Context())
    torch.testing.assert_close(seen[0], -score if crf_input == "score" else -score.log())
    raw = torch.softmax(-5 * seen[0], dim=1).clamp_min(1e-4)
    torch.testing.assert_close(marginal, raw / raw.sum(1, keepdim=True))
    assert seed.equal(grow_seeds(marginal, batch["cue"], batch["tag"], 0.4, 0.4))
    assert seed.sum() > batch["cue"].sum()


def test_fixed_seeds_are_the_cues(grow):
    stage = grow(grow=False, threshold_foreground=0.0, threshold_background=0.0)
    batch = batch_of(stage)
    score = floor_softmax(torch.randn(3, stage.num_classes, *batch["cue"].shape[2:]))
    assert stage.targets(batch, score, Context())[1].equal(batch["cue"])


def test_certain_scores_join_to_finite_ones(grow, monkeypatch):
    stage = grow()
    certain = torch.tensor([200.0, 0.0]).view(1, 2, 1, 1)
    monkeypatch.setattr(stage, "network", lambda image: certain)
    assert stage.predict([torch.zeros(1, 3, 8, 8)] * 2, None, mirror=False).isfinite().all()


def test_prediction_joins_scales_and_mirror_images(grow):
    stage = grow()
    stage.network.eval()
    images = [torch.rand(2, 3, *size) * 255 for size in ((32, 32), (24, 40))]
    logits = []
    with torch.no_grad():
        for view in images:
            logits += [stage.network(view), stage.network(view.flip(3)).flip(3)]
        found = stage.predict(images, None, mirror=True)
    size = max(tuple(z.shape[-2:]) for z in logits)
    larger = [nn.functional.interpolate(z, size, mode="bilinear") for z in logits]
    torch.testing.assert_close(found, sum(larger).softmax(1), rtol=1e-4, atol=1e-6)


def test_retraining_starts_from_every_tensor_of_step_1(make, grow, tmp_path):
    first = grow()
    content = {"stage": "dsrg", "recipe": {}, "classes": [], "step": 0}
    checkpoint.save(tmp_path / "one.pt", {**content, "network": first.network.state_dict()})
    second = make(Retrain, start=str(tmp_path / "one.pt"), seed=1)
    nn.init.zeros_(second.network.fc8_1.weight)
    second.load()
    wanted = first.network.state_dict()
    assert all(torch.equal(v, wanted[k]) for k, v in second.network.state_dict().items())
    wider = make(Retrain, start=str(tmp_path / "one.pt"), hidden=12)
    with pytest.raises(UserError, match=r"one\.pt"):
        wider.load()


def test_retraining_needs_masks(make, tmp_path):
    with pytest.raises(UserError, match="--mask"):
        make(Retrain).dataset()
    with pytest.raises(UserError, match="does not exist"):
        make(Retrain, mask=str(tmp_path / "none")).dataset()


def test_all_branches_start_from_one_fc6(tmp_path):
    network = VGGPyramid(vgg((4, 4, 4, 4, 6)), 3, PyramidHead(5, (1, 2)))
    state = {k: torch.randn_like(v) for k, v in network.trunk.state_dict().items() if "conv" in k}
    state |= {"fc6.weight": torch.randn(5, 6, 3, 3), "fc6.bias": torch.randn(5)}
    state |= {"fc8.weight": torch.randn(3, 5, 1, 1), "other.weight": torch.randn(1)}
    torch.save(state, tmp_path / "vgg.pt")
    before = network.fc8_1.weight.clone()
    report = load_vgg(network, str(tmp_path / "vgg.pt"))
    for layer in (network.fc6_1, network.fc6_2):
        assert layer.weight.equal(state["fc6.weight"]) and layer.bias.equal(state["fc6.bias"])
    assert network.trunk.conv1_1.weight.equal(state["conv1_1.weight"])
    assert network.fc8_1.weight.equal(before), "the last layer keeps its random start"
    assert report.unused == ["fc8.weight", "other.weight"]
    assert "fc7_1.weight" in report.missing


def test_logits_of_the_branches_are_summed():
    network = VGGPyramid(vgg((4,) * 5), 3, PyramidHead(5, (1, 2))).eval()
    image = torch.randint(0, 256, (1, 3, 17, 24), dtype=torch.uint8)
    both = network(image)
    parts = []
    for off in (1, 2):
        kept = network.get_submodule(f"fc8_{off}").weight.data.clone()
        network.get_submodule(f"fc8_{off}").weight.data.zero_()
        parts.append(network(image))
        network.get_submodule(f"fc8_{off}").weight.data.copy_(kept)
    torch.testing.assert_close(parts[0] + parts[1], both)


def test_class_map():
    seed = torch.tensor([[1, 0, 1], [0, 0, 1]], dtype=torch.bool).view(1, 2, 1, 3)
    assert class_map(seed).tolist() == [[[0, IGNORE, 1]]]


def test_resnet101_has_the_published_parts(tmp_path):
    with torch.device("meta"):
        trunk = DSRG.recipes["paper-resnet101"].backbone.trunk()
        network = ResNetPyramid(trunk, 21)
        wanted = models.resnet101().state_dict()
    ours = network.trunk.state_dict()
    assert {k for k in wanted if not k.startswith("fc.")} == {
        k for k in ours if "normalise" not in k
    }
    assert all(ours[k].shape == wanted[k].shape for k in ours.keys() & wanted.keys())
    heads = [network.get_submodule(name) for name in network.new]
    assert [head.dilation for head in heads] == [(6, 6), (12, 12), (18, 18), (24, 24)]
    assert network(torch.zeros(1, 3, 321, 321, device="meta")).shape == (1, 21, 41, 41)
