"""Whole steps of the stages against outputs of the released programs, and the published solvers."""

import pytest
import torch
from networks import image_of

from base.contract import Context
from method import stage_class
from method.localiser import SEAMLosses, compare_views
from refine import random_walk


@pytest.mark.parametrize(
    "name, full", [("seam_losses", False), ("seam_losses", True), ("locate_losses", False)]
)
def test_losses_of_two_views_and_their_gradients(reference, name, full):
    data = reference(name, full)
    maps = {key: data[f"in_{key}"].requires_grad_() for key in ("cam1", "cam2", "rv1", "rv2")}
    views = [(maps["cam1"], maps["rv1"]), (maps["cam2"], maps["rv2"])]
    terms = compare_views(views, data["in_tag"], SEAMLosses(ratio=0.5), Context())
    released = {key: data[f"out_loss_{key}"] for key in ("cls1", "cls2", "rvmin1", "rvmin2")}
    expected = {
        "classify": (released["cls1"] + released["cls2"]) / 2,
        "rvmin": (released["rvmin1"] + released["rvmin2"]) / 2,
        "equivariance": data["out_loss_er"],
        "cross": data["out_loss_ecr1"] + data["out_loss_ecr2"],
    }
    torch.testing.assert_close(terms, expected, rtol=0, atol=1e-6)
    inputs, prefix = list(maps.values()), "out_grad_loss_" if full else "out_grad_"
    for key, loss in (("er", terms["equivariance"]), ("ecr", terms["cross"])):
        gradients = torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True)
        for view, gradient in zip(maps, gradients):
            wanted = data.get(f"{prefix}{key}_{view}")
            assert (wanted is None) == (gradient is None or not gradient.any()), (key, view)
            if wanted is not None:
                torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-6)
    total = sum(terms.values())
    assert total.item() == pytest.approx(data["out_loss"].item(), abs=1e-6)
    gradients = torch.autograd.grad(total, (maps["cam2"], maps["rv2"]))
    for view, gradient in zip(("cam2", "rv2"), gradients):
        torch.testing.assert_close(gradient, data[f"out_grad_loss_{view}"], rtol=0, atol=1e-6)


def test_locate_s_localiser_has_no_background(make):
    networks = (
        make("seam").network,
        make("segmenter").network.localiser,
        make("resegment").network.localiser,
    )
    assert [network(image_of())[1].shape[1] for network in networks] == [7, 6, 7]


def test_the_walk_takes_edges_of_the_image_and_its_mirror_image(make):
    stage = make("affinity")
    stage.network.eval()
    image, seed = image_of(1)[0], torch.rand(2, 8, 8)
    found = stage.walk(image, seed)
    assert found.shape == (2, 32, 40) and found.max() == 1
    assert found.amax(dim=(1, 2)).min() < 1, "maps are divided by their common maximum"
    # An image and its mirror image have mirrored results.
    mirrored = stage.walk(image.flip(2), seed.flip(2)).flip(2)
    torch.testing.assert_close(found, mirrored, rtol=0, atol=1e-5)


def test_a_walk_without_boundaries_keeps_equal_scores():
    score = torch.full((1, 9, 9), 0.4)
    torch.testing.assert_close(random_walk(score, torch.zeros(9, 9)), score)


def test_classes_that_are_faint_everywhere_are_left_out(make, monkeypatch):
    stage = make("deeplab")
    logit = torch.zeros(2, 7, 8, 8)
    logit[:, 0], logit[0, 2, 1:, 1:], logit[1, 5] = 6.0, 8.0, 6.0
    monkeypatch.setattr(stage, "network", lambda image: logit)
    score = stage.predict([image_of()], None, False)
    kept = score.flatten(2).any(2)
    assert kept.nonzero().tolist() == [[0, 0], [0, 2], [1, 0], [1, 5]]


@pytest.mark.parametrize("name", ["affinity", "deeplab", "rsepm", "sec"])
def test_parameter_groups_of_the_published_solvers(make, name):
    """SEC's Caffe solver: biases x2 without decay; DHR and IRN: the rate of weights, with decay."""
    solver = stage_class(name).recipes["paper"].solver
    stage = make(name, solver=solver)
    heads = {
        id(p) for part in stage.network.new for p in stage.network.get_submodule(part).parameters()
    }
    found = {
        (round(group["lr"] / solver.lr), group["weight_decay"], id(p) in heads, p.ndim == 1)
        for group in stage.groups()
        for p in group["params"]
    }
    factor, decay = (2, 0.0) if name == "sec" else (1, solver.weight_decay)
    wanted = {(10, solver.weight_decay, True, False), (10 * factor, decay, True, True)}
    wanted |= {(1, solver.weight_decay, False, False), (factor, decay, False, True)}
    assert found == wanted
