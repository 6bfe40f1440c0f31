"""SEC as a stage: what its CRF sees, losses left out, the grid that follows the pools."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from recipes import change

import densecrf
from base import UserError
from base.contract import Context
from datalist.cue import CueFile
from datalist.shape import Shape, write_shapes
from datalist.spec import resolve
from datalist.tag import read_tags
from method.refinement import Refinement
from method.sec import SEC


@pytest.fixture
def stage(scenes_root):
    return SEC(SEC.recipes["smoke"], resolve("scenes", scenes_root))


def batch(stage, count=2):
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator),
        "tag": (torch.rand(count, 6, generator=generator) < 0.5).float(),
        "cue": torch.rand(count, 7, 8, 8, generator=generator) < 0.1,
    }


def test_crf_sees_the_image_at_the_grid(stage):
    """A constant image shrinks to itself, so the marginals are those of a constant image."""
    logit = torch.randn(1, 7, 8, 8)
    image = torch.full((1, 3, 32, 32), 77, dtype=torch.uint8)
    found = stage.refinement.marginals(image, logit)
    small = np.full((1, 8, 8, 3), 77, np.uint8)
    crf = stage.recipe.train_crf
    kernels = densecrf.preset(crf.crf, scale=crf.crf_scale).kernels
    expected = densecrf.mean_field(-logit.numpy(), small, kernels, 10)
    assert np.allclose(found.numpy(), expected, atol=1e-5)


def test_without_a_scale_the_grid_counts_as_500_pixels(stage):
    image = torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8)
    logit = torch.randn(1, 7, 8, 12)
    free, fixed = (
        Refinement(change(stage.recipe, crf_scale=scale).train_crf).marginals(image, logit)
        for scale in (None, 500 / 12)
    )
    assert torch.equal(free, fixed)


def test_crf_sees_pale_images_stretched(stage):
    """Deviations of 5 and 25 grey levels: with the spread 25 the CRF sees the same image."""
    checker = (torch.arange(32)[:, None] // 4 + torch.arange(32) // 4) % 2 * 2 - 1
    pale, vivid = (
        (100 + checker * height).to(torch.uint8).expand(1, 3, 32, 32) for height in (5, 25)
    )
    logit = torch.randn(1, 7, 8, 8)
    plain = Refinement(stage.recipe.train_crf)
    spread = Refinement(change(stage.recipe, crf_spread=25.0).train_crf)
    assert torch.equal(spread.marginals(pale, logit), plain.marginals(vivid, logit))
    assert not torch.equal(plain.marginals(pale, logit), plain.marginals(vivid, logit))


def test_weight_zero_leaves_a_term_out(stage, scenes_root):
    terms = stage.losses(batch(stage), Context())
    assert set(terms) == {"seed", "expand", "constrain"}
    for name in terms:
        recipe = change(stage.recipe, **{f"{name}_weight": 0.0})
        rest = SEC(recipe, stage.spec).losses(batch(stage), Context())
        assert set(rest) == set(terms) - {name}


def test_needs_cues(stage):
    with pytest.raises(UserError, match="--cue"):
        stage.dataset()


@pytest.mark.parametrize(
    "size, grid", [((321, 321), (81, 81)), ((320, 320), (80, 80)), ((33, 50), (9, 13))]
)
def test_cues_come_on_the_networks_grid(stage, scenes_root, scenes_cue, size, grid):
    recipe = change(stage.recipe, dataset=str(scenes_root), size=size, cue=str(scenes_cue))
    sized = SEC(recipe, resolve(str(scenes_root)))
    assert sized.dataset()[0, 0]["cue"].shape == (7, *grid)
    assert sized.network.training
    with torch.no_grad():
        logit = sized.network.eval()(torch.zeros(1, 3, *size))
    assert tuple(logit.shape[-2:]) == grid


def test_marginals_are_computed_beside_the_losses(stage):
    logit = torch.randn(2, 7, 8, 8, requires_grad=True)
    image = batch(stage)["image"]
    wait = stage.refinement.start(image, logit, Context())
    found = wait()
    assert torch.equal(found, stage.refinement.marginals(image, logit))
    assert not found.requires_grad


def test_weight_of_a_share_multiplies_every_term(stage):
    stage.network.eval()
    whole = stage.losses(batch(stage), Context())
    share = stage.losses(batch(stage), Context(weight=0.5))
    for name, term in whole.items():
        torch.testing.assert_close(share[name], 0.5 * term)


def test_crops_have_no_cues(stage, scenes_cue):
    recipe = change(stage.recipe, fit="crop", cue=str(scenes_cue))
    with pytest.raises(UserError, match="--fit warp"):
        SEC(recipe, stage.spec).dataset()


@pytest.mark.parametrize("source, expected", [("cue", 0.0), ("dataset", 1.0), ("auto", 1.0)])
def test_tags_of_the_cues_or_of_the_data_set(scenes_root, tmp_path, source, expected):
    spec = resolve(str(scenes_root))
    name = next(i for i, tags in read_tags(spec, spec.ids("train")).items() if tags)
    cues = {i: np.zeros((spec.num_classes, 20, 20), bool) for i in spec.ids("train")}
    for cue in cues.values():
        cue[0, 0, 0] = True  # the background alone has cues
    CueFile.collect(cues).write(tmp_path / "cue.npz")
    recipe = SEC.recipes["smoke"]
    recipe = replace(
        recipe,
        data=replace(recipe.data, dataset=str(scenes_root)),
        sec=replace(recipe.sec, cue=str(tmp_path / "cue.npz"), tags_from=source),
    )
    data = SEC(recipe, spec).dataset()
    assert data[data.ids.index(name)]["tag"].max() == expected


def test_answers_about_sizes_give_classes_decays_of_their_own(stage, scenes_cue, tmp_path):
    path = tmp_path / "answers.csv"
    one, two = stage.spec.classes[1:3]
    path.write_text(f"class,group,answer\n{one},size,speck\n{two},size,most\n{one},1,not\n")
    losses = replace(stage.recipe.sec, cue=str(scenes_cue), answers=str(path))
    stage.recipe = replace(stage.recipe, sec=losses)
    stage.dataset()
    decay = stage.decay.tolist()
    assert decay[0] < losses.decay_foreground < decay[1]
    assert set(decay[2:]) == {losses.decay_foreground}
    half = [np.log(0.5) / np.log(value) / 41**2 for value in decay[:2]]
    assert half == pytest.approx([0.003, 0.35])
    write_shapes(
        tmp_path / "shape.json", {1: Shape(0.2, 0.1), 3: Shape(0.2, 0.1)}, stage.spec.classes
    )
    losses = replace(losses, shape=str(tmp_path / "shape.json"))
    stage.recipe = replace(stage.recipe, sec=losses)
    stage.dataset()  # the size bounds what was measured
    half = [np.log(0.5) / np.log(value) / 41**2 for value in stage.decay[:3].tolist()]
    assert half == pytest.approx([0.005, 0.35, 0.1])
    first = stage.losses(batch(stage), Context())["expand"]
    stage.decay = losses.decay_foreground
    assert stage.losses(batch(stage), Context())["expand"] != first
