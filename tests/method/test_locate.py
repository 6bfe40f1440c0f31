"""SEAM and locate-then-segment: what the stages make of their networks' outputs."""

import pytest
import torch
from networks import image_of
from recipes import change

from base import IGNORE, UserError
from base.contract import Context
from base.tensor import max_norm, over_peak, resize
from loss.dice import dice_loss
from loss.seam import cross_equivariance_loss, equivariance_loss, rvmin_loss, tag_loss
from method.localiser import two_views
from method.locate import Resegment, Segmenter, resegment_scores
from method.seam import SEAM
from method.target import others_share, shown_classes
from network.seam import with_background
from utils.solver import build_optimizer, build_schedule


def test_seam_compares_the_views_by_its_four_losses(make):
    stage = make(SEAM, dropout=0.0, ratio=0.5)
    stage.network.eval()
    image, tag = image_of(3), torch.tensor([[1.0, 0, 0, 1, 0, 0], [0.0] * 6, [1.0] * 6])
    (cam1, rv1), (cam2, rv2) = two_views(image, stage.recipe.seam, stage.network, Context())
    assert cam1.shape[2:] == (32, 40) and cam2.shape[2:] == (16, 20)
    known = tag[:, :, None, None]
    a, b = resize(max_norm(cam1), (16, 20), align_corners=True) * known, max_norm(cam2) * known
    both = torch.cat((torch.ones(3, 1, 1, 1), known), dim=1)
    r1, r2 = resize(max_norm(rv1), (16, 20), align_corners=True) * both, max_norm(rv2) * both
    expected = {
        "classify": (tag_loss(cam1, tag) + tag_loss(cam2, tag)) / 2,
        "rvmin": (rvmin_loss(rv1[:, 1:] * known) + rvmin_loss(rv2[:, 1:] * known)) / 2,
        "equivariance": equivariance_loss(a, b),
        "cross": cross_equivariance_loss(r1, with_background(b))
        + cross_equivariance_loss(r2, with_background(a)),
    }
    torch.testing.assert_close(stage.losses({"image": image, "tag": tag}, Context()), expected)


def test_plain_maps_need_one_view(make):
    stage = make(SEAM, equivariance=False)
    stage.network.eval()
    image, tag = image_of(), torch.eye(6)[:2]
    assert set(stage.losses({"image": image, "tag": tag}, Context())) == {"classify"}
    cam, _ = stage.network(image)
    score = stage.predict([image], tag, mirror=False)
    own = max_norm(cam) * tag[:, :, None, None]
    torch.testing.assert_close(score[:, 1:], max_norm(own))
    assert (score[:, 0] == stage.recipe.cut.threshold).all()


def test_scales_are_joined_to_maps_that_reach_one(make, monkeypatch):
    stage = make(SEAM)
    maps = {5: torch.rand(1, 6, 5, 5) * 0.3, 8: torch.rand(1, 6, 8, 8) * 0.3}
    monkeypatch.setattr(stage, "view", lambda image: (maps[image.shape[-1]],))
    images = [torch.zeros(1, 3, side, side) for side in maps]
    score = stage.predict(images, None, mirror=False)
    mean = (resize(maps[5], (8, 8)) + maps[8]) / 2
    torch.testing.assert_close(score[:, 1:], max_norm(mean))
    torch.testing.assert_close(score[:, 1:].amax(dim=(2, 3)), torch.ones(1, 6), rtol=0, atol=1e-3)
    assert score[:, 1:].amin(dim=(2, 3)).eq(0).all()


def test_seam_cues_are_sure_and_exclusive(make, monkeypatch):
    stage = make(SEAM, threshold=0.3, threshold_background=0.05, size=(32, 48), cell=8)
    score = torch.rand(2, 6, 4, 6)
    score[0, :, 0, 0] = 0.01
    monkeypatch.setattr(stage, "view", lambda image: (score,))
    cue = stage.cues(image_of(), torch.ones(2, 6))
    assert cue.dtype == torch.bool and cue.shape == (2, 7, 4, 6)
    assert cue.sum(1).max() == 1 and cue[0, 0, 0, 0]
    assert cue[:, 1:].any(1).equal(max_norm(score).amax(1) > 0.3)


def test_background_stands_at_one_half(make, monkeypatch):
    """The released rule: background where no mask reaches 0.5, else the highest mask."""
    stage = make(Segmenter, passes=1)
    mask = torch.rand(3, 32, 40)
    monkeypatch.setattr("method.locate.segment", lambda network, image, prompt: mask)
    tag = torch.tensor([[1.0, 0, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0]])
    score = stage.predict([image_of()], tag, mirror=False)
    torch.testing.assert_close(score.sum(1), torch.ones(2, 32, 40))
    label = score.argmax(1)
    first = torch.where(mask[0] >= mask[1], 1, 5)
    assert label[0].equal(torch.where(mask[:2].amax(0) > 0.5, first, 0))
    assert label[1].equal(torch.where(mask[2] > 0.5, 3, 0))


def test_each_pass_segments_the_mask_before(make, monkeypatch):
    stage = make(Segmenter, passes=3)
    stage.network.eval()
    prompts = []

    def halve(network, image, prompt):
        prompts.append(prompt)
        return prompt / 2

    monkeypatch.setattr("method.locate.segment", halve)
    image, tag = image_of(), torch.eye(6)[[2, 4]]
    stage.predict([image], tag, mirror=False)
    cam, _ = stage.network(image)
    start = max_norm(resize(cam, (32, 40), align_corners=True))[[0, 1], [2, 4]]
    assert len(prompts) == 3
    for number, prompt in enumerate(prompts):
        torch.testing.assert_close(prompt, start / 2**number)


def test_maps_of_all_views_may_be_averaged_first(make, monkeypatch):
    """With mirror images: each view gets the same maps, seen its way round."""
    stage = make(Segmenter, passes=1, average=True)
    cams, refined = {}, {}

    def localise(image):
        side = image.shape[-1]
        cams.setdefault(side, torch.randn(1, 6, side // 4, side // 4))
        refined.setdefault(side, torch.rand(1, 7, side // 4, side // 4))
        return cams[side], refined[side]

    prompts = []

    def segment(network, image, prompt):
        prompts.append(prompt)
        return prompt

    monkeypatch.setattr(stage.network, "forward", localise)
    monkeypatch.setattr("method.locate.segment", segment)
    images = [torch.zeros(1, 3, side, side) for side in (16, 32)]
    score = stage.predict(images, torch.eye(6)[[2]], mirror=True)
    views = [maps for side in (16, 32) for maps in (cams[side], refined[side][:, 1:])]
    mean = sum(resize(over_peak(maps), (8, 8)) for maps in views) / 4
    mean = (mean + mean.flip(3)) / 2
    for number, prompt in enumerate(prompts):
        side = (16, 32)[number // 2]
        expected = max_norm(resize(mean, (side, side), align_corners=True))[:, 2]
        expected = expected.flip(2) if number % 2 else expected
        torch.testing.assert_close(prompt, expected)
    torch.testing.assert_close(score, score.flip(3))


def test_without_tags_the_localiser_names_the_classes(make, monkeypatch):
    stage = make(Segmenter)
    cam = torch.full((2, 6, 8, 10), -9.0)
    cam[0, 3] = 9.0
    monkeypatch.setattr(stage.network, "forward", lambda image: (cam, None))
    monkeypatch.setattr(
        "method.locate.segment", lambda _, image, prompt: torch.ones(len(image), 32, 40)
    )
    label = stage.predict([image_of()], None, mirror=False).argmax(1)
    assert label[0].eq(4).all() and label[1].eq(0).all()


def test_segmenter_learns_the_pairs_masks_from_both_maps(make, monkeypatch):
    stage = make(Segmenter, pairs=9)
    stage.network.eval()
    mask = torch.zeros(2, 32, 40, dtype=torch.long)
    mask[0, :10], mask[0, 20:], mask[1, :, :5] = 2, 5, IGNORE
    batch = {"image": image_of(), "mask": mask, "id": ["a", "b"]}
    seen = {}

    def segment(network, image, prompt):
        seen["prompt"] = prompt
        return resize(prompt[:, None], (32, 40))[:, 0]

    monkeypatch.setattr("method.locate.segment", segment)
    monkeypatch.setattr(stage, "draw_pairs", lambda tag: tag.nonzero().unbind(1))
    terms = stage.losses(batch, Context())
    assert not seen["prompt"].requires_grad
    views = two_views(batch["image"], stage.recipe.seam, stage.network, Context())
    first, second = (max_norm(maps)[0, [1, 4]] for maps in views[0])
    truth = torch.stack((mask[0] == 2, mask[0] == 5)).float()
    torch.testing.assert_close(terms["segment"], dice_loss(first, truth))
    torch.testing.assert_close(terms["segment refined"], dice_loss(second, truth))
    torch.testing.assert_close(terms["agree"], dice_loss(first, second))


def test_a_fixed_localiser_only_gives_prompts(make, tmp_path):
    seam = make(SEAM)
    torch.save(seam.network.state_dict(), tmp_path / "seam.pt")
    stage = make(Segmenter, fixed=True, start=str(tmp_path / "seam.pt"))
    stage.load()
    stage.network.train()
    localiser = stage.network.localiser
    before = {key: value.clone() for key, value in localiser.state_dict().items()}
    mask = torch.zeros(2, 32, 40, dtype=torch.long)
    mask[:, :20] = 2
    terms = stage.losses({"image": image_of(), "mask": mask, "id": ["a", "b"]}, Context())
    assert set(terms) == {"segment", "segment refined", "agree"}
    sum(terms.values()).backward()
    learned = {id(p) for group in stage.groups() for p in group["params"]}
    assert learned == {id(p) for p in stage.network.segmenter.parameters()}
    after = localiser.state_dict()  # statistics of its normalisation too
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert not make(Segmenter, fixed=True).network.fixed  # it knows nothing, and has to learn


def test_pixels_of_no_class_do_not_teach(make, monkeypatch):
    stage = make(Segmenter)
    monkeypatch.setattr(
        "method.locate.segment", lambda _, image, prompt: torch.ones(len(image), 32, 40)
    )
    mask = torch.full((2, 32, 40), IGNORE)
    mask[:, :8] = 3
    terms = stage.losses({"image": image_of(), "mask": mask}, Context())
    assert terms["segment"] == pytest.approx(0, abs=1e-6)


def test_an_image_without_classes_is_an_empty_prompt(make):
    stage = make(Segmenter)
    prompts = []
    stage.network.segmenter.register_forward_pre_hook(lambda _, x: prompts.append(x[0][:, 3]))
    mask = torch.zeros(2, 32, 40, dtype=torch.long)
    terms = stage.losses({"image": image_of(), "mask": mask}, Context())
    assert prompts[0].shape[0] == 2 and not prompts[0].any()
    assert all(term.isfinite() for term in terms.values())


def test_at_most_so_many_pairs(make):
    stage = make(Segmenter, pairs=3)
    tag = torch.ones(2, 6)
    shown, label = stage.draw_pairs(tag)
    assert len(shown) == 3 == len(set(zip(shown.tolist(), label.tolist())))


def test_shown_classes():
    mask = torch.tensor([[[0, 3], [IGNORE, 3]], [[IGNORE, 0], [1, 2]]])
    assert shown_classes(mask, 4).tolist() == [[0, 0, 1], [1, 1, 0]]


def test_share_of_other_classes():
    mask = torch.tensor([[[0, 3], [IGNORE, 3]], [[IGNORE, IGNORE], [2, 2]]])
    expected = [[0.75, 0.75, 0.25], [0.5, 0.0, 0.5]]
    assert others_share(mask, 4).tolist() == expected


def test_pairs_need_pixels_of_another_class(make, monkeypatch):
    """The first image shows one class among ignored pixels; the second, two classes."""
    stage = make(Segmenter, contrast=0.1)
    mask = torch.full((2, 32, 40), IGNORE)
    mask[0, :16], mask[1, :16], mask[1, 16:20] = 1, 2, 3
    drawn = []
    monkeypatch.setattr(stage, "draw_pairs", lambda tag: drawn.append(tag) or tag.nonzero().T)
    stage.losses({"image": image_of(), "mask": mask}, Context())
    assert drawn[0].nonzero().tolist() == [[1, 1], [1, 2]]


def test_entropy_beside_dice(make, monkeypatch):
    stage = make(Segmenter, entropy=2.0)
    mask = torch.full((2, 32, 40), IGNORE)
    mask[:, :8], mask[:, 8:16] = 3, 0
    made = torch.rand(2, 32, 40)
    monkeypatch.setattr("method.locate.segment", lambda *_: made.repeat(2, 1, 1))
    monkeypatch.setattr(stage, "draw_pairs", lambda tag: tag.nonzero().unbind(1))
    terms = stage.losses({"image": image_of(), "mask": mask}, Context())
    right = torch.cat((made[:, :8], 1 - made[:, 8:16]), dim=1)
    torch.testing.assert_close(terms["entropy"], -4 * right.log().mean())


@pytest.fixture
def parts(make, tmp_path):
    """Files of a localiser and a segmenter, and a check that a stage holds these."""
    seam, segmenter = make(SEAM), make(Segmenter)
    for p in (*seam.network.parameters(), *segmenter.network.parameters()):
        torch.nn.init.uniform_(p)
    files = tmp_path / "seam.pt", tmp_path / "segmenter.pt"
    for file, stage in zip(files, (seam, segmenter)):
        torch.save(stage.network.state_dict(), file)

    def check(stage):
        stage.load()
        wanted = {f"localiser.{key}": value for key, value in seam.network.state_dict().items()}
        wanted |= {k: v for k, v in segmenter.network.state_dict().items() if k[0] == "s"}
        found = stage.network.state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(value, wanted[key]) for key, value in found.items())

    return *map(str, files), check


def test_both_parts_come_from_checkpoints(make, parts):
    seam, segmenter, check = parts
    check(make(Resegment, start=seam, segmenter_checkpoint=segmenter))
    check(make(Segmenter, start=seam, start_segmenter=segmenter))
    with pytest.raises(UserError, match="--segmenter-checkpoint"):
        make(Resegment, start=seam).load()
    with pytest.raises(UserError, match="--start"):
        make(Resegment, segmenter_checkpoint=segmenter, steps=0).load()
    with pytest.raises(UserError, match="another network"):
        make(Resegment, segmenter_checkpoint=seam, steps=1).load()


def test_localiser_and_segmenter_learn_as_released(make):
    """SGD whose rate falls for the localiser, Adam at a constant rate for the segmenter; resumed
    after a step, too."""
    released = Segmenter.recipes["paper"]
    assert released.training.adam_lr == 1e-4 and released.solver.optimizer == "sgd"
    assert (released.solver.lr, released.solver.policy) == (1e-3, "poly")
    solver = {"optimizer": "sgd", "lr": 0.1, "head_factor": 10.0, "bias_factor": 2.0}
    solver |= {"momentum": 0.0, "weight_decay": 0.01, "decay_all": False, "warmup": 0}
    stage = make(Segmenter, adam_lr=0.01, steps=4, **solver)
    network, recipe = stage.network, stage.recipe.solver
    parts = {name: part for name, part in network.named_parameters() if part.requires_grad}
    copies = {name: part.detach().clone().requires_grad_() for name, part in parts.items()}
    adam = torch.optim.Adam([p for n, p in copies.items() if n.startswith("segmenter")], lr=0.01)
    new = tuple(name for name in network.new if name.startswith("localiser"))
    stored = None
    for step in range(3):
        optimizer = build_optimizer(recipe, stage.groups(), fused=False)
        schedule = build_schedule(recipe, optimizer, 4)
        if stored:
            optimizer.load_state_dict(stored[0])
            schedule.load_state_dict(stored[1])
        for name, part in parts.items():
            part.grad = torch.full_like(part, 0.5 + step)
            copies[name].grad = part.grad.clone()
        optimizer.step()
        schedule.step()
        stored = optimizer.state_dict(), schedule.state_dict()
        adam.step()
        with torch.no_grad():
            for name, copy in copies.items():
                if name.startswith("localiser"):
                    rate = 0.1 * (1 - step / 4) ** 0.9
                    rate *= (10 if name.startswith(new) else 1) * (2 if copy.ndim == 1 else 1)
                    decay = 0.0 if copy.ndim == 1 else 0.01
                    copy -= rate * (copy.grad + decay * copy)
        for name, part in parts.items():
            torch.testing.assert_close(part, copies[name], rtol=1e-5, atol=1e-6)


def test_no_passes_leave_the_maps(make):
    stage = make(Segmenter)
    stage.network.eval()
    image, tag = image_of(), torch.eye(6)[[2, 4]]
    prompting = change(stage.recipe, passes=0).prompting
    with torch.no_grad():
        cam, _ = stage.network(image)
        score = resegment_scores(stage.network, image, cam, tag, prompting)
    mask = max_norm(resize(cam, (32, 40), align_corners=True))[0, 2]
    torch.testing.assert_close(score[0, 3], mask / (mask + prompting.background))


def test_mask_and_map_may_score_together(make, monkeypatch):
    stage = make(Segmenter, passes=1, joint=True)
    image, tag, maps = image_of(1), torch.eye(6)[[2]], torch.rand(1, 6, 32, 40)
    mask = torch.rand(1, 32, 40)
    monkeypatch.setattr("method.locate.segment", lambda *_: mask)
    score = resegment_scores(stage.network, image, maps, tag, stage.recipe.prompting)
    joint = (mask * max_norm(maps)[:, 2]).sqrt()
    torch.testing.assert_close(score[:, 3], joint / (joint + stage.recipe.prompting.background))


def test_images_enter_at_a_longer_side_of_choice(make):
    data = make(SEAM, test_long=100).recipe.data
    assert data.input_size((200, 50)) == (100, 25)
    assert data.input_size((30, 40)) == (75, 100)
    assert make(SEAM, test_long=0).recipe.data.input_size((33, 47)) == (33, 47)
    assert make(SEAM, fit="warp", long=None, test_long=0).recipe.data.input_size((9, 5)) == (32, 32)
