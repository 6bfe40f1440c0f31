"""Cues of the two networks, against their rules."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from datalist.spec import resolve
from method.cue import BackgroundCue, ForegroundCue


def image(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=generator)


def test_foreground_cut(scenes_root):
    stage = ForegroundCue(ForegroundCue.recipes["smoke"], resolve("scenes", scenes_root))
    stage.network.eval()
    tag = torch.tensor([[1, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]]).float()
    cue = stage.cues(image(), tag)
    cam = stage.network.cam(image()).detach()
    assert cue.shape == (2, 7, 8, 8) and not cue[:, 0].any() and not cue[1].any()
    for channel in (0, 2):
        peak = cam[0, channel].max()
        expected = cam[0, channel] > stage.recipe.threshold * peak
        assert torch.equal(cue[0, channel + 1], expected & (peak > 0))
    assert not cue[0, [2, 4, 5, 6]].any()


@pytest.mark.parametrize("head, layer", [("average", "conv3_1"), ("dense", "conv4_1")])
def test_background_rank(scenes_root, head, layer):
    recipe = replace(BackgroundCue.recipes["smoke"], head=head, layer=layer)
    stage = BackgroundCue(recipe, resolve("scenes", scenes_root))
    stage.network.eval()
    with torch.inference_mode():
        cue = stage.cues(image(), torch.zeros(2, 6))
    raw = stage.network.saliency(image()).numpy()
    for found, saliency in zip(cue, raw):
        smooth = ndimage.median_filter(saliency, 3)
        cut = np.sort(smooth.ravel())[int(0.1 * smooth.size)]
        assert np.array_equal(found[0].numpy(), smooth < cut)
    assert not cue[:, 1:].any()


def test_saliency_is_the_gradient_of_all_logits(scenes_root):
    torch.manual_seed(0)
    stage = BackgroundCue(BackgroundCue.recipes["smoke"], resolve("scenes", scenes_root))
    network = stage.network.double().eval()
    # Zeros tie in the ReLU and in the pooling, no derivative there: most features are positive.
    torch.nn.init.uniform_(network.trunk.conv3_1.weight)
    feature = network.trunk(image()[:1].double(), last=network.layer).detach()
    saliency = network.saliency(image()[:1].double())[0]
    cells = (feature[0] > 1e-3).all(dim=0).nonzero().tolist()
    assert cells and saliency.isfinite().all()
    steepest = 0.0
    for y, x in cells:
        slopes = []
        for channel in range(feature.shape[1]):
            step = torch.zeros_like(feature)
            step[0, channel, y, x] = 1e-6
            change = network.classify(feature + step) - network.classify(feature - step)
            slopes.append(abs(change.sum().item()) / 2e-6)
        assert saliency[y, x].item() == pytest.approx(max(slopes), rel=1e-4, abs=1e-9)
        steepest = max(steepest, *slopes)
    assert steepest > 0
