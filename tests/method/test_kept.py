"""Features of a frozen trunk are computed once for each image, and are the same without files."""

from unittest.mock import Mock

import pytest
import torch
from recipes import change, recipe_of

from base.contract import Context
from datalist.spec import resolve
from method.cam import CAM
from method.kept import kept_features, network_checksum

SOURCE = b"network"


def test_features_are_computed_once_and_stay_what_they_are(tmp_path):
    seen = []

    def compute(image):
        seen.append(image.shape[0])
        return image.float() / 3

    image = torch.randint(0, 256, (5, 3, 6, 4), dtype=torch.uint8)
    image[4] = image[1]
    expected = (image.float() / 3).half().float()
    folder = tmp_path / "features"
    assert torch.equal(kept_features(image, compute, SOURCE, folder, False), expected)
    assert seen == [1] * 5 and not folder.exists()
    seen.clear()
    for order in ((0, 1, 2), (2, 0), (3, 4), (4, 3, 2, 1, 0)):
        rows = list(order)
        assert torch.equal(
            kept_features(image[rows], compute, SOURCE, folder, True), expected[rows]
        )
    assert seen == [1, 1, 1, 1]  # two images are the same
    # A file that was cut off does not count, nor do those of another network or another shape.
    assert len(list(folder.iterdir())) == 4
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:-5])
    kept_features(image[:1], compute, SOURCE, folder, True)
    assert seen == [1] * 5
    kept_features(image[:1], compute, SOURCE, folder, False)
    assert seen == [1] * 5
    kept_features(image[:1], compute, b"another", folder, False)
    kept_features(image[:1].reshape(1, 3, 4, 6), compute, SOURCE, folder, False)
    assert seen == [1] * 7


def test_a_network_is_known_by_tensors_and_settings():
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 2, 1)
    before = network_checksum(network, 16)
    assert network_checksum(network, 16) == before != network_checksum(network, 8)
    network.bias.data[0] += 1
    assert network_checksum(network, 16) != before


@pytest.mark.parametrize(
    "fields, constant",
    [
        ({}, True),
        ({"variants": 3}, True),
        ({"variants": 0}, False),
        ({"frozen": False}, False),
        ({"norm": True}, False),
    ],
)
def test_a_classifier_keeps_what_cannot_change(scenes_root, fields, constant):
    recipe = change(
        recipe_of("cam", "photo-timm"), norm=False, variants=1, dataset=str(scenes_root)
    )
    stage = CAM(change(recipe, **fields), resolve(str(scenes_root)))
    assert stage.constant is constant


def test_training_and_prediction_share_the_features_of_an_image(scenes_root, tmp_path):
    recipe = change(
        recipe_of("cam", "photo-timm"), norm=False, variants=1, dataset=str(scenes_root)
    )
    torch.manual_seed(0)
    stage = CAM(recipe, resolve(str(scenes_root)))
    stage.network.train()
    samples = [stage.dataset()[index] for index in range(4)]
    batch = {key: torch.stack([sample[key] for sample in samples]) for key in ("image", "tag")}
    alone = stage.losses(batch, Context())["classify"]
    stage.folder = tmp_path
    first, again = (stage.losses(batch, Context())["classify"] for _ in range(2))
    assert torch.equal(alone, first) and torch.equal(first, again)
    files = sorted((tmp_path / "features").iterdir())
    assert len(files) == 4
    stage.network.eval()
    with torch.inference_mode():
        images = [batch["image"].float() + 0.3, batch["image"].float().repeat(1, 1, 2, 2)]
        kept = stage.predict(images, batch["tag"], False)
        assert sorted((tmp_path / "features").iterdir()) == files
        trunk = stage.network.trunk
        trunk.stages = Mock(wraps=trunk.stages)
        assert torch.equal(stage.predict(images, batch["tag"], False), kept)
        assert trunk.stages.call_count == 4  # the second scale alone
        stage.folder = None
        assert torch.equal(stage.predict(images, batch["tag"], False), kept)


def test_variants_come_in_turn_and_begin_with_the_input_of_prediction(scenes_root):
    from base.tensor import resize
    from datalist.dataset import Images

    spec = resolve(str(scenes_root))
    size = (120, 160)
    options = {"mode": "window", "window": (0.6, 1.0), "jitter": (0.3, 0.3, 0.3, 0.0)}
    data = Images(spec, "train", size, mirror=True, variants=3, **options)
    raw = Images(spec, "train")
    for index in range(3):
        expected = resize(raw[index]["image"][None].float(), size)[0].round()
        epochs = [data[index, epoch * len(data) + 5]["image"] for epoch in range(6)]
        assert torch.equal(epochs[0].float(), expected)
        assert all(torch.equal(epochs[k], epochs[k + 3]) for k in range(3))
        assert not any(torch.equal(epochs[k], epochs[k + 1]) for k in range(3))
