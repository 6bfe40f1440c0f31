"""Plain activation maps: how the classes and the maps of several views are joined."""

import torch

from base.tensor import resize


def test_without_tags_the_first_view_says_which_classes_there_are(make, monkeypatch):
    """Maps are averaged over the views, and logits are not, in which the others would prevail."""
    stage = make("cam")
    maps = {8: torch.rand(1, 6, 8, 8), 12: torch.rand(1, 6, 12, 12)}
    logit = {8: torch.tensor([[0.1, -0.1] * 3]), 12: torch.tensor([[-9.0, 9.0] * 3])}
    monkeypatch.setattr(
        stage, "view", lambda image: (maps[image.shape[-1]], logit[image.shape[-1]])
    )
    images = [torch.zeros(1, 3, side, side) for side in maps]
    score = stage.predict(images, None, mirror=False)
    assert score.flatten(2).any(2)[0].tolist() == [True] + [True, False] * 3
    tags = torch.tensor([[1.0, 0.0] * 3])
    assert score.equal(stage.predict(images, tags, mirror=False))
    mean = (resize(maps[8], (12, 12)) + maps[12]) / 2
    torch.testing.assert_close(score[:, 1], mean[:, 0] / mean[:, 0].max())
