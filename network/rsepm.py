"""Network of RecurSeed and EdgePredictMix: one trunk, a classifier's maps, a decoder's scores."""

import math

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from network.deeplabv3 import Decoder, DecoderHead


class RSEPM(nn.Module):
    """Trunk with a 1 x 1 classifier, whose maps are the CAMs, and a DeepLab-v3+ decoder.

    Source: core/networks.py of the released RecurSeed code: the fine features are not reduced to
    fewer channels than the pyramid has, the last convolution is 3 x 3, and neither it nor the
    classifier has a bias.
    """

    new = ("classifier", "decoder")

    def __init__(self, trunk: nn.Module, num_classes: int, head: DecoderHead = DecoderHead()):
        super().__init__()
        self.trunk = trunk
        self.classifier = nn.Conv2d(trunk.channels[-1], num_classes - 1, 1, bias=False)
        self.decoder = Decoder(trunk.channels, num_classes, head, kernel=3, bias=False)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Everything the losses need of RGB images 0..255, (N, 3, H, W).

        Returns:
            Maps of the classifier, (N, num_classes - 1, h, w), whose means are the logits of the
            tags; logits of the decoder, (N, num_classes, h', w'); then the five stages' features.
        """
        features = self.trunk.stages(image)
        return self.classifier(features[-1]), self.decoder(features), *features


class Averaged(nn.Module):
    """A network in training and the moving average of its weights, which predicts.

    In training mode the network itself runs, in evaluation mode the average. Both are in the state
    dict.

    Args:
        decay: weight of the old average in an update, in [0, 1).
        ramp: updates over which the decay rises to it, as 1 - exp(-updates / ramp).

    Source: ModelEMA of the released RecurSeed code (decay, ramp of 2000 updates). The statistics
    of normalisation layers are averaged as well.
    """

    def __init__(self, network: nn.Module, decay: float, ramp: float):
        super().__init__()
        self.new = tuple(f"live.{name}" for name in network.new)
        self.decay, self.ramp = decay, ramp
        self.average = AveragedModel(network, multi_avg_fn=self.move, use_buffers=True)
        self.average.requires_grad_(False)
        self.live = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self.live if self.training else self.average)(image)

    def train(self, mode: bool = True) -> "Averaged":
        super().train(mode)
        self.average.eval()
        return self

    def update(self) -> None:
        """Update the average; the first update sets it to the network."""
        self.average.update_parameters(self.live)

    def reset(self) -> None:
        """Set the average to the network, after weights were loaded into it."""
        self.average.module.load_state_dict(self.live.state_dict())

    @torch.no_grad()
    def move(self, average: list[Tensor], now: list[Tensor], updates: Tensor) -> None:
        """One update of tensors of one type, in place."""
        if average[0].is_floating_point():
            keep = self.decay * (1 - math.exp(-int(updates) / self.ramp))
            torch._foreach_lerp_(average, now, 1 - keep)
        else:  # counters
            torch._foreach_copy_(average, now)
