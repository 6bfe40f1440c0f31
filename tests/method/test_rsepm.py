"""RecurSeed: what teaches what, where filling counts, what predicts."""

import pytest
import torch
from networks import resnet
from recipes import change
from torch import nn

from base import IGNORE, UserError
from base.contract import Context
from base.tensor import resize
from datalist.spec import resolve
from method.rsepm import RecurSeed, classify_loss
from method.target import cue_mask, inside_box
from network.deeplabv3 import DecoderHead
from network.rsepm import RSEPM, Averaged

MIXES = ("edge", "certain", "classmix", "cutmix", "none")


def make(root, **changes) -> RecurSeed:
    recipe = change(RecurSeed.recipes["smoke"], dataset=str(root), dropout=0.0, **changes)
    torch.manual_seed(0)
    stage = RecurSeed(recipe, resolve(recipe.data.dataset))
    stage.load()
    return stage


def batch_of(stage, count=4) -> dict:
    data = stage.dataset()
    samples = [data[k] for k in range(count)]
    return {
        key: torch.stack([s[key] for s in samples])
        for key in samples[0]
        if isinstance(samples[0][key], torch.Tensor) and key != "size"
    }


def test_losses_begin_with_their_epochs(scenes_root):
    stage = make(scenes_root, recursion_epoch=1, mix_epoch=2)
    assert stage.phases == {"--recursion-epoch": 1, "--mix-epoch": 2}
    assert make(scenes_root, recursion_epoch=1, mix="none").phases == {"--recursion-epoch": 1}
    batch = batch_of(stage)
    first, second, third = (stage.losses(batch, Context(epoch=epoch)) for epoch in (0, 1, 2))
    assert first["recursion"] == 0 and first["segment"] == 0
    assert set(second) == {"classify", "recursion", "segment"} and second["segment"] > 0
    assert set(third) - set(second) == {"mixed recursion", "mixed segment"}


@pytest.mark.parametrize("mix", MIXES)
def test_each_way_of_mixing(scenes_root, mix):
    stage = make(scenes_root, mix=mix, certain=0.2)
    terms = stage.losses(batch_of(stage), Context())
    assert ("mixed segment" in terms) == (mix != "none")
    assert all(value.isfinite() for value in terms.values())


def recursion_inputs(stage):
    """What `recurse` takes, of a batch; the tags are the second."""
    batch = batch_of(stage)
    maps, _, *features = stage.network(batch["image"])
    small = nn.functional.avg_pool2d(batch["image"].float(), 2)
    return small, batch["tag"], inside_box(batch, (16, 16)), maps, features


def test_targets_carry_no_gradient_and_know_only_tags(scenes_root):
    stage = make(scenes_root)
    inputs = recursion_inputs(stage)
    tag = inputs[1]
    found = stage.recurse(*inputs)
    assert found["refined"].shape == (4, stage.num_classes - 1, 16, 16)
    for value in found.values():
        assert not value.requires_grad and value.min() >= 0 and value.max() <= 1
        assert (value.amax(dim=(2, 3)) * (1 - tag)).max() == 0


def test_maps_have_the_cues_values_where_there_are_cues(scenes_root):
    stage = make(scenes_root)
    inputs = recursion_inputs(stage)
    _, tag, inside, *_ = inputs
    plain = stage.recurse(*inputs)
    cue = torch.full((4, 16, 16), IGNORE)
    none = stage.recurse(*inputs, cue)
    assert all(torch.equal(none[name], plain[name]) for name in plain)
    shown = tag.argmax(1)
    cue[:, :8], cue[:, 12:] = 0, shown[:, None, None] + 1
    target = stage.recurse(*inputs, cue)["refined"]
    assert plain["refined"][:, :, :8].max() > 0 and target[:, :, :8].max() == 0
    own = nn.functional.one_hot(shown, stage.num_classes - 1)[:, :, None, None].float()
    assert torch.equal(target[:, :, 12:], own.expand_as(target[:, :, 12:]))
    label = stage.certain(target, tag, inside)
    assert (label[:, :8] == 0).all() and torch.equal(label[:, 12:], cue[:, 12:])


def test_cues_are_a_folder_of_masks(scenes_root, tmp_path):
    assert "mask" not in make(scenes_root).dataset()[0]
    stage = make(scenes_root, cue=str(scenes_root / "SegmentationClass"))
    batch = batch_of(stage)
    size = (16, 16)
    for value in (batch["mask"], cue_mask(batch, size)):
        assert value.shape[0] == 4 and set(value.unique().tolist()) <= {*range(7), IGNORE}
    cued = stage.losses(batch, Context())
    del batch["mask"]
    plain = stage.losses(batch, Context())
    assert cued["recursion"] != plain["recursion"] and cued["classify"] == plain["classify"]
    file = tmp_path / "cue.npz"
    file.touch()
    with pytest.raises(UserError, match="is not a folder"):
        make(scenes_root, cue=str(file)).dataset()


def test_filling_is_neither_learned_nor_labelled(scenes_root):
    stage = make(scenes_root, fit="crop", long=(20, 24))
    batch = batch_of(stage)
    inside = inside_box(batch, (16, 16))
    assert 0.2 < inside.float().mean() < 0.7  # an image of 20 to 24 pixels in a crop of 32
    target = torch.rand(4, stage.num_classes - 1, 16, 16)
    assert (stage.certain(target, batch["tag"], inside)[~inside[:, 0]] == IGNORE).all()
    maps = torch.randn(4, stage.num_classes - 1, 16, 16)
    elsewhere = torch.where(inside, maps, 50.0)
    first, second = (classify_loss(m, batch["tag"], inside) for m in (maps, elsewhere))
    torch.testing.assert_close(first, second)


def test_box_on_a_grid():
    batch = {"image": torch.zeros(1, 3, 8, 12), "box": torch.tensor([[2, 0, 8, 9]])}
    found = inside_box(batch, (4, 6))[0, 0]
    assert found.nonzero().amin(0).tolist() == [1, 0] and found.nonzero().amax(0).tolist() == [3, 3]
    assert found.sum() == 12 + 0 and inside_box({"image": batch["image"]}, (4, 6)).all()


def test_a_pasted_object_brings_its_pixels_labels_and_tag(scenes_root, monkeypatch):
    stage = make(scenes_root)
    batch = batch_of(stage, 2)
    batch["tag"] = torch.zeros(2, stage.num_classes - 1)
    batch["tag"][0, 1] = 1
    label = torch.zeros(2, 16, 16, dtype=torch.long)
    label[0, 4:8, 4:8] = 2
    region = (label > 0).roll(1, 0)
    monkeypatch.setattr(stage, "own_labels", lambda *_: (label, region))
    seen = []
    stage.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    learned = []
    learn = stage.learn
    monkeypatch.setattr(stage, "learn", lambda *args: learned.append(args) or learn(*args))
    stage.losses(batch, Context())
    mixed = seen[1]
    assert torch.equal(mixed[1, :, 8:16, 8:16], batch["image"][0, :, 8:16, 8:16])
    assert torch.equal(mixed[1, :, 16:], batch["image"][1, :, 16:])
    assert torch.equal(mixed[0], batch["image"][0])
    assert (learned[1][4][1, 4:8, 4:8] == 2).all() and learned[1][4][1].sum() == 32
    assert learned[1][5].tolist()[1] == batch["tag"][0].tolist()


# -- prediction -------------------------------------------------------------------------------


def test_seeds_are_the_released_formula(scenes_root):
    stage = make(scenes_root)
    stage.network.eval()
    image = batch_of(stage, 2)["image"]
    tag = torch.zeros(2, stage.num_classes - 1)
    tag[0, :2] = 1
    found = stage.predict([image, image[:, :, ::2, ::2]], tag, mirror=True)
    passes = []
    for view in (image, image[:, :, ::2, ::2]):
        passes += [stage.network(view)[1].softmax(1)]
        passes += [stage.network(view.flip(3))[1].softmax(1).flip(3)]
    mean = sum(resize(score, passes[0].shape[-2:]) for score in passes) / 4
    for k in range(2):
        seed = mean[0, 1 + k] / (mean[0, 1 + k].max() + 1e-5)
        torch.testing.assert_close(found[0, 1 + k], seed)
    best = found[0, 1:].amax(0)
    torch.testing.assert_close(found[0, 0], (1 - best) ** 2)
    assert found[0, 3:].max() == 0
    assert (found[1, 0] == 1).all() and found[1, 1:].max() == 0  # no tag: all background


def test_without_tags_the_classifier_chooses(scenes_root):
    stage = make(scenes_root, presence=0.5)
    stage.network.eval()
    image = batch_of(stage, 3)["image"]
    maps = stage.network(image)[0]
    likely = torch.sigmoid(maps.mean(dim=(2, 3))) >= 0.5
    assert likely.any() and not likely.all()
    found = stage.predict([image], None, mirror=False)
    assert torch.equal(found[:, 1:].amax(dim=(2, 3)) > 0, likely)


def test_without_presence_the_decoder_predicts(scenes_root):
    stage = make(scenes_root, presence=0.0)
    stage.network.eval()
    batch = batch_of(stage, 2)
    found = stage.predict([batch["image"]], None, mirror=False)
    assert torch.equal(found, stage.network(batch["image"])[1].softmax(1))
    known = stage.predict([batch["image"]], batch["tag"], mirror=False)
    assert torch.equal(known[:, 1:].amax(dim=(2, 3)) > 0, batch["tag"] > 0)


# -- moving average ---------------------------------------------------------------------------


def test_average_follows_the_formula():
    network = RSEPM(resnet((4,) * 5, blocks=(1,) * 4, norm=True), 4, DecoderHead(4, 8))
    both = Averaged(network, decay=0.9, ramp=3.0)
    expected = None
    weight = network.classifier.weight
    for update in range(4):
        with torch.no_grad():
            weight += torch.randn_like(weight)
        both.update()
        now = weight.detach().clone()
        if update == 0:
            expected = now
        else:
            keep = 0.9 * (1 - torch.exp(torch.tensor(-update / 3.0)))
            expected = keep * expected + (1 - keep) * now
        torch.testing.assert_close(both.average.module.classifier.weight, expected)


def test_the_average_predicts_and_never_learns():
    network = RSEPM(resnet((4,) * 5, blocks=(1,) * 4, norm=True), 4, DecoderHead(4, 8))
    both = Averaged(network, 0.9, 3.0)
    image = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    before = {key: value.clone() for key, value in both.average.state_dict().items()}
    maps, logit, *features = both.train()(image)
    assert maps.shape == (2, 3, 4, 4) and logit.shape == (2, 4, 8, 8) and len(features) == 5
    assert all(torch.equal(value, before[key]) for key, value in both.average.state_dict().items())
    with torch.no_grad():
        network.classifier.weight.zero_()
    assert both.eval()(image)[0].abs().max() > 0
    both.reset()
    assert both(image)[0].abs().max() == 0
    assert not any(p.requires_grad for p in both.average.parameters())
