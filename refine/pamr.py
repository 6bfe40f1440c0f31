"""Pixel-adaptive mask refinement (PAMR): scores are averaged over pixels of similar colour."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

DILATIONS = (1, 2, 4, 8, 12, 24)


def pamr(
    image: Tensor, score: Tensor, steps: int = 10, dilations: Sequence[int] = DILATIONS
) -> Tensor:
    """Replace each score repeatedly by a mean over neighbours, weighted by colour similarity.

    Args:
        image: RGB in any range, (N, 3, H, W); only ratios of its differences matter.
        score: any real numbers, (N, C, H, W).
        steps: number of repetitions.
        dilations: distances of the eight neighbours, pixels.

    Returns:
        Refined scores, (N, C, H, W), each within the range of its map.

    Source: Araslanov and Roth, CVPR 2020.
    """
    affinity = colour_affinity(image.to(score.dtype), dilations)
    for _ in range(steps):
        total = torch.zeros_like(score)
        for k, other in enumerate(neighbours(score, dilations)):
            total.addcmul_(affinity[:, k : k + 1], other)
        score = total
    return score


def colour_affinity(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """Weight of each neighbour, (N, 8 * dilations, H, W), summing to 1 at every pixel.

    The softmax of minus the colour difference over a tenth of the local standard deviation, which
    is taken over all neighbours and, once for each dilation, the pixel itself.
    """
    around = torch.stack(list(neighbours(image, dilations)), dim=1)
    centre = image[:, None]
    window = torch.cat((around, centre.expand(-1, len(dilations), -1, -1, -1)), dim=1)
    spread = window.std(dim=1, keepdim=True)
    closeness = -(around - centre).abs() / (0.1 * spread + 1e-8)
    return torch.softmax(closeness.mean(dim=2), dim=1)


def neighbours(x: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """The maps (N, C, H, W) shifted in each of the eight directions by each distance.

    Border pixels are replicated outwards.
    """
    height, width = x.shape[-2:]
    for far in dilations:
        padded = pad(x, (far, far, far, far), mode="replicate")
        for row in (0, far, 2 * far):
            for column in (0, far, 2 * far):
                if (row, column) != (far, far):
                    yield padded[..., row : row + height, column : column + width]
