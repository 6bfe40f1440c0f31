"""SEAM's network and losses, which `seam` trains alone and `locate` with a segmenter."""

from dataclasses import dataclass, replace

from torch import Tensor, nn

from base.contract import Context
from base.recipe import Data
from base.tensor import max_norm, resize
from loss.seam import cross_equivariance_loss, equivariance_loss, rvmin_loss, tag_loss
from method.preset import PHOTO_CLASSIFIER, SMALL_RESNET, SMALL_VGG16
from network.seam import CorrelationHead, SEAMNet, with_background

DATA = Data(size=(448, 448), fit="crop", long=(448, 768), jitter=(0.3, 0.3, 0.3, 0.1), mirror=True)


@dataclass(frozen=True)
class SEAMLosses:
    """SEAM's losses on two views, as released."""

    equivariance: bool = True
    """Learn from two views and refine the maps; without, plain class activation maps."""
    ratio: float = 0.3
    """Size of the second view over that of the first."""
    lowest: float = 0.25
    """Share of the positions whose refined maps are held low (rvmin)."""
    hardest: float = 0.2
    """Share of the values that the cross regularisation looks at (ECR)."""

    # -- ours: not in the publication ------------------------------------------------------------
    ramp: int = 0
    """Steps over which all losses but the classification's rise to their full weight (ours, for
    training from scratch: maps that know nothing yet agree best where they are empty)."""
    decay: float = 1.0
    """Decay of the pooling by rank that makes one logit of a map, on a grid of 41 x 41 (ours); 1:
    the average, as released."""


# -- small and photo (ours) ------------------------------------------------------------------------

# Hue is part of what tells the classes of `scenes` apart, so nothing is jittered there.
SMALL_DATA = Data(size=(80, 80), fit="crop", long=(80, 100), mirror=True, test_long=96)
# From scratch VGG16 learns in a third of the steps that ResNet-38d needs.
SMALL_BACKBONE = replace(SMALL_VGG16, pool=(2, 2, 1, 0, 0), dilation=(1, 1, 1, 2, 4))
SMALL_RESNET50 = replace(SMALL_RESNET, stride=(2, 1, 2, 1, 1), dilation=(1, 1, 2, 4))
SMALL_CORRELATION = CorrelationHead((16, 32), dropout=0.1)
SMALL_LOSSES = SEAMLosses(ramp=200, ratio=0.5)
PHOTO_CORRELATION = CorrelationHead(dropout=0.0, join=True, frozen=True, enlarge=2.0)
PHOTO_LOSSES = SEAMLosses(ratio=0.5, decay=PHOTO_CLASSIFIER["decay"])


def build(recipe, num_classes: int, background: bool = True) -> SEAMNet:
    """SEAM's network on a recipe's backbone, for as many classes with background.

    `background` as of `SEAMNet`.
    """
    trunk = recipe.backbone.trunk()
    if recipe.head.frozen:
        trunk.requires_grad_(False)
    return SEAMNet(trunk, num_classes - 1, recipe.head, background)


def two_views(
    image: Tensor, seam: SEAMLosses, network: nn.Module, context: Context
) -> list[tuple[Tensor, Tensor]]:
    """Plain maps (N, K, h, w) and refined ones (N, K or K + 1, h, w), at the size of their image,
    of the image and, with `equivariance`, of the image at `ratio`."""
    images = [image]
    if seam.equivariance:
        size = [max(1, int(side * seam.ratio)) for side in image.shape[-2:]]
        images.append(resize(image.float(), size, align_corners=True))
    views = []
    for view in images:
        cam, refined = context.run(network, view)
        size = view.shape[-2:]
        views.append((resize(cam, size, True), resize(refined, size, True)))
    return views


def compare_views(
    views: list[tuple[Tensor, Tensor]], tag: Tensor, seam: SEAMLosses, context: Context
) -> dict[str, Tensor]:
    """SEAM's losses of the maps of one or two views."""
    # The maps were enlarged to the image. Every fourth row and column is enough to sort.
    every = 4 if seam.decay < 1 else 1
    classify = [tag_loss(cam[..., ::every, ::every], tag, seam.decay) for cam, _ in views]
    terms = {"classify": sum(classify) / len(views)}
    if len(views) == 2:
        own = tag[:, :, None, None].to(views[0][0])
        classes, grid = own.shape[1], views[1][0].shape[-2:]
        background = views[0][1].shape[1] > classes
        known = nn.functional.pad(own, (0, 0, 0, 0, 1, 0), value=1.0) if background else own
        first, second = (resize(max_norm(cam), grid, True) * own for cam, _ in views)
        refined = [resize(max_norm(maps), grid, True) * known for _, maps in views]
        low = [rvmin_loss(maps[:, -classes:] * own, seam.lowest) for _, maps in views]
        others = [with_background(cam) if background else cam for cam in (second, first)]
        cross = [
            cross_equivariance_loss(maps, other, seam.hardest, background)
            for maps, other in zip(refined, others)
        ]
        weight = min(1.0, context.step / seam.ramp) if seam.ramp else 1.0
        terms["rvmin"] = weight * sum(low) / 2
        terms["equivariance"] = weight * equivariance_loss(first, second)
        terms["cross"] = weight * sum(cross)
    return terms
