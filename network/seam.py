"""SEAM's network: class activation maps, and the same maps refined by pixel correlation."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from base.tensor import over_peak, resize
from network.trunk import JoinedStages
from network.vgg import fully_connected, new_layer_std


@dataclass(frozen=True)
class CorrelationHead:
    """Classifier and pixel correlation module."""

    reduced: tuple[int, int] = (64, 128)
    """Channels that the pixel correlation's two features are reduced to (released)."""
    dropout: float = 0.5
    """Probability of dropping whole channels before the classifier (released)."""

    # -- ours: not in the publication ------------------------------------------------------------
    join: bool = False
    """Classify the features of all stages, normalised, instead of the last one's (ours)."""
    frozen: bool = False
    """The trunk keeps its pretrained weights (ours)."""
    enlarge: float = 1.0
    """Factor to the sides of the image before the network sees it (ours)."""


class SEAMNet(nn.Module):
    """Classifier without fully connected layers, with a pixel correlation module (PCM) beside it.

    Args:
        trunk: features; the last three stages are used.
        background: whether the refined maps begin with one of the background (SEAM); without,
            they are of the classes alone (wjlbnw/SegmentationFromLocalization).

    Source: Wang et al., CVPR 2020 (SEAM), layer names of the released code. Differs: the published
    classifier has an output for the background that nothing trains; maps stay on the trunk's grid.
    """

    new = ("fc8", "f8_3", "f8_4", "f9")

    def __init__(
        self,
        trunk: nn.Module,
        num_tags: int,
        head: CorrelationHead = CorrelationHead(),
        background: bool = True,
    ):
        super().__init__()
        self.trunk, self.enlarge = trunk, head.enlarge
        low, middle, high = trunk.channels[-3:]
        self.all_stages = None
        if head.join:
            high = sum(trunk.channels)
            self.all_stages = JoinedStages(high)
        reduced = head.reduced
        self.fc8 = fully_connected(high, num_tags, 1, std=new_layer_std(trunk.norm))
        self.f8_3 = fully_connected(low, reduced[0], 1)
        self.f8_4 = fully_connected(middle, reduced[1], 1)
        self.f9 = fully_connected(3 + sum(reduced), sum(reduced), 1)
        # Normalised features have the mean 0: without a bias no map could be low everywhere.
        for name in self.new[1:] if head.join else self.new:
            self.get_submodule(name).bias = None
        self.dropout = nn.Dropout2d(head.dropout)
        self.background = background

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Plain and refined maps of RGB images 0..255, (N, 3, H, W).

        Returns:
            Plain maps before any cut, any real numbers, (N, K, h, w); refined ones in [0, 1],
            (N, K + 1, h, w) with the background first, or (N, K, h, w) without `background`.
        """
        if self.enlarge != 1:
            size = [round(side * self.enlarge) for side in image.shape[-2:]]
            image = resize(image.float(), size, align_corners=True)
        stages = self.trunk.stages(image)
        low, middle, high = stages[-3:]
        if self.all_stages is not None:
            high = self.all_stages(stages)
        cam = self.fc8(self.dropout(high))
        grid = cam.shape[-2:]
        # The affinities do not train the trunk: their inputs are detached.
        colour = self.trunk.normalise(image)[:, :3]
        colour = resize(colour, grid, align_corners=True).to(cam.dtype)
        low = resize(torch.relu(self.f8_3(low.detach())), grid, align_corners=True)
        middle = resize(torch.relu(self.f8_4(middle.detach())), grid, align_corners=True)
        feature = self.f9(torch.cat((colour, low, middle), dim=1))
        return cam, correlate(strongest(cam.detach(), self.background), feature)


def with_background(cam: Tensor) -> Tensor:
    """Put a background map, one minus the highest, before maps in [0, 1]; (N, K + 1, h, w)."""
    return torch.cat((1 - cam.amax(dim=1, keepdim=True), cam), dim=1)


def strongest(cam: Tensor, background: bool = True) -> Tensor:
    """Maps (N, K, h, w) over their peaks, with all but the highest value of each position set to 0;
    with `background`, a map of one minus the highest comes first."""
    cam = over_peak(cam)
    highest = cam.amax(dim=1, keepdim=True)
    kept = torch.where(cam == highest, cam, 0)
    return torch.cat((1 - highest, kept), dim=1) if background else kept


def correlate(cam: Tensor, feature: Tensor) -> Tensor:
    """Give each position the mean of a map over all positions, weighted by likeness of features.

    Args:
        cam: maps, (N, C, h, w).
        feature: any real numbers, (N, D, h, w).

    Returns:
        (N, C, h, w). Likeness is the cosine of two features, at least 0, over its sum.

    Source: SEAM, pixel correlation module. The affinities take (h w)^2 numbers an image.
    """
    direction = nn.functional.normalize(feature.flatten(2), dim=1, eps=1e-5)
    likeness = (direction.transpose(1, 2) @ direction).relu()
    likeness = likeness / likeness.sum(dim=1, keepdim=True).clamp_min(1e-5)
    return (cam.to(likeness.dtype).flatten(2) @ likeness).view_as(cam)
