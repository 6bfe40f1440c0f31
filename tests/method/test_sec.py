"""SEC as a stage: what its CRF sees, losses left out, the grid that follows the pools."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import densecrf
from base import UserError
from datalist.spec import resolve
from method.sec import SEC, grid_size


@pytest.fixture
def stage(scenes_root):
    return SEC(SEC.recipes["smoke"], resolve("scenes", scenes_root))


def batch(stage, count=2):
    height, width = grid_size(stage.recipe.size, stage.recipe.pool)
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator),
        "tag": (torch.rand(count, 6, generator=generator) < 0.5).float(),
        "cue": torch.rand(count, 7, height, width, generator=generator) < 0.1,
    }


def test_crf_sees_the_image_at_the_grid(stage):
    """A constant image shrinks to itself, so the marginals are those of a constant image."""
    logit = torch.randn(1, 7, 8, 8)
    image = torch.full((1, 3, 32, 32), 77, dtype=torch.uint8)
    found = stage.marginals(image, logit)
    small = np.full((1, 8, 8, 3), 77, np.uint8)
    expected = densecrf.mean_field(-logit.numpy(), small, stage.preset.kernels, 10)
    assert np.allclose(found.numpy(), expected, atol=1e-5)


def test_weight_zero_leaves_a_term_out(stage, scenes_root):
    terms = stage.losses(batch(stage), 0)
    assert set(terms) == {"seed", "expand", "constrain"}
    for name in terms:
        recipe = replace(stage.recipe, **{f"{name}_weight": 0.0})
        rest = SEC(recipe, stage.spec).losses(batch(stage), 0)
        assert set(rest) == set(terms) - {name}


def test_needs_cues(stage):
    with pytest.raises(UserError, match="--cue"):
        stage.dataset()


@pytest.mark.parametrize("size", [(321, 321), (320, 320), (33, 50)])
def test_grid_size_is_the_networks(stage, size):
    with torch.no_grad():
        logit = stage.network.eval()(torch.zeros(1, 3, *size))
    assert tuple(logit.shape[-2:]) == grid_size(size, stage.recipe.pool)
