"""Networks for pictures of more than three bands: their first convolution gets more channels."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from base import UserError
from network.normalise import CONVENTION

PHOTOGRAPHS = CONVENTION["torchvision"][1]
"""Deviation of R, G and B, 0..255, in the photographs of ImageNet."""


def widen(network: nn.Module, mean: Sequence[float], deviation: Sequence[float]) -> None:
    """Let the trunks of a network take pictures of more than three bands.

    The weights of further channels are the mean of those of R, G and B. Channels that follow the
    picture (a prompt) keep their weights. Every band is brought to the mean and deviation that the
    weights saw in photographs. `mean` and `deviation` are those of each band in the data set's
    pictures, 0..255.

    Raises:
        UserError: the first convolution of a trunk does not take R, G and B.
    """
    for trunk in trunks(network):
        conv, normalise = first_convolution(trunk), trunk.normalise
        trunk.bands = (tuple(mean), tuple(deviation), normalise.mean, normalise.std)
        rgb, rest = conv.weight.detach().split((3, conv.weight.shape[1] - 3), dim=1)
        more = rgb.mean(1, keepdim=True).expand(-1, len(mean) - 3, -1, -1)
        put(conv, torch.cat((rgb, more, rest), dim=1))
        order = [2, 1, 0] if normalise.order == "BGR" else [0, 1, 2]
        order += range(3, len(mean))
        # Weights that divide by 1 (Caffe's) expect a deviation of 57, others of 1.
        seen = torch.tensor(PHOTOGRAPHS)[order[:3]].to(normalise.std)
        factor = normalise.std.flatten() / seen
        factor = torch.cat((factor, factor.mean().expand(len(mean) - 3)))
        own = torch.tensor([mean, deviation], dtype=torch.float32)[:, order].to(factor)
        normalise.mean = own[0].view(1, -1, 1, 1)
        normalise.std = (own[1] * factor).view(1, -1, 1, 1)


@contextmanager
def narrow(network: nn.Module) -> Iterator[None]:
    """Give the trunks their three channels back while published weights are copied into them."""
    wide = [trunk for trunk in trunks(network) if getattr(trunk, "bands", None)]
    bands = [trunk.bands[:2] for trunk in wide]
    for trunk, (mean, _) in zip(wide, bands):
        conv = first_convolution(trunk)
        weight = conv.weight.detach()
        put(conv, torch.cat((weight[:, :3], weight[:, len(mean) :]), dim=1))
        trunk.normalise.mean, trunk.normalise.std = trunk.bands[2:]
        trunk.bands = None
    try:
        yield
    finally:
        for trunk, own in zip(wide, bands):
            widen(trunk, *own)


def picture_channels(trunk: nn.Module) -> int:
    """Channels of the picture that a trunk takes, those of a prompt not counted."""
    return trunk.normalise.mean.shape[1]


def trunks(network: nn.Module) -> list[Any]:
    """Parts of a network that normalise their images."""
    return [part for part in network.modules() if hasattr(part, "normalise")]


def first_convolution(trunk: nn.Module) -> nn.Conv2d:
    """The convolution that sees the image."""
    conv = next((part for part in trunk.modules() if isinstance(part, nn.Conv2d)), None)
    if conv is None or conv.groups != 1 or conv.in_channels < 3:
        raise UserError(
            "this backbone does not begin with a convolution of the image, so it takes three bands "
            "only: choose three with --bands, or another backbone"
        )
    return conv


def put(conv: nn.Conv2d, weight: Tensor) -> None:
    """Give a convolution other weights, of another number of input channels."""
    conv.in_channels = weight.shape[1]
    conv.weight = nn.Parameter(weight.contiguous(), conv.weight.requires_grad)
