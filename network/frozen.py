"""Trunks whose batch normalisation keeps the statistics of the loaded weights."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights


class FrozenNorm(nn.Module):
    """Base of trunks: unless `norm` is true, batch normalisation stays in evaluation mode.

    The statistics of a few images are too noisy to normalise by.
    """

    norm = False
    """Whether batch normalisation learns."""

    def train(self, mode: bool = True) -> "FrozenNorm":
        """Set the mode; frozen batch normalisation stays in evaluation mode."""
        super().train(mode)
        if not self.norm:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


@torch.inference_mode(False)  # what is made while predicting is good for training, too
@torch.no_grad()
def folded(network: nn.Module, image: Tensor) -> nn.Module:
    """A copy that predicts without batch normalisation, which its convolutions do instead.

    Args:
        network: features, a list of tensors, of images.
        image: an example of its input, (N, C, H, W), by which the copy is checked.

    Returns:
        The copy, or `network` itself where another layer stands between the two.
    """
    copy = deepcopy(network).eval()
    made: dict[int, nn.Module] = {}
    pairs: list[tuple[nn.Module, nn.Module]] = []

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made[id(output)] = module
            kept.append(output)  # no other tensor gets its number
        elif id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])], module))

    kept: list[Tensor] = []
    layers = [m for m in copy.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    hooks = [layer.register_forward_hook(after) for layer in layers]
    expected = copy(image)
    for hook in hooks:
        hook.remove()
    names = {module: name for name, module in copy.named_modules()}
    for convolution, norm in pairs:
        statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        weight, bias = fuse_conv_bn_weights(convolution.weight, convolution.bias, *statistics)
        convolution.weight, convolution.bias = weight, bias
        rest = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]
        copy.set_submodule(names[norm], nn.Sequential(*rest))
    same = all(torch.allclose(*maps, rtol=1e-3, atol=1e-4) for maps in zip(copy(image), expected))
    return copy.requires_grad_(False) if same else network
