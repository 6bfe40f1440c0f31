"""Vision transformers of timm as trunks: layers as stages, at images of any size."""

import inspect
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from base import UserError
from network.trunk import FIRST_STRIDE, Timm, TimmTrunk, first_line

STAGES = 4
"""Stages of a trunk; their strides double from `FIRST_STRIDE` on."""


@dataclass(frozen=True)
class Transformer(Timm):
    """A vision transformer of timm, for segmentation: its class activation maps are bad."""

    model: str = "vit_small_patch14_dinov2.lvd142m"
    """timm's name of the network."""
    weights: str = "timm"
    """Start from: timm (which downloads), none, or the path of a state dict."""
    layer_decay: float = 0.75
    """Ratio of a layer's learning rate to the next one's (BEiT, MAE)."""

    def trunk(self, extra: int = 0) -> "TransformerTrunk":
        """Build the trunk, without weights; `extra` channels of the image follow R, G, B."""
        return TransformerTrunk(self, extra)


@lru_cache(maxsize=8)
def outline(name: str) -> nn.Module | None:
    """A timm network without memory for its weights; None for a name that timm does not know."""
    import timm

    plain = name.partition(".")[0]
    if not timm.is_model(plain):
        return None
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # for names that timm has renamed
        return timm.create_model(plain)


def is_transformer(name: str) -> bool:
    """Say whether a timm network is one for `TransformerTrunk`.

    It is where all layers have one stride, as in ViT, where timm has a switch that lets it see
    images of any size, as for Swin, and for Hiera, of which SAM 2's sees any size.
    """
    model = outline(name)
    info = getattr(model, "feature_info", None)
    if model is None or not isinstance(info, list) or not info:
        return False
    flat = len({stage["reduction"] for stage in info}) == 1 and hasattr(model, "blocks")
    return flat or any_size(model) != {} or is_hiera(model)


def is_hiera(model: nn.Module) -> bool:
    """Whether a network is of the Hiera family, whose features cannot be normalised."""
    return type(model).__name__.startswith("Hiera")


def any_size(model: nn.Module) -> dict[str, bool]:
    """Options of timm that let a network see images of any size; empty where it has none."""
    options = {"dynamic_img_size": True, "strict_img_size": False}
    known = inspect.signature(type(model).__init__).parameters
    return {key: value for key, value in options.items() if key in known}


class TransformerTrunk(TimmTrunk):
    """Layers of a timm transformer as stages at strides 4, 8, 16 and the output stride.

    Images are resized to the next multiple of the patch (of the last stride, where the network has
    several), so that the tokens cover them exactly. Of a network with one stride, the layers at a
    quarter, half, three quarters and the end of its depth are the stages. Features are normalised
    by the network's last layer norm where it fits, then resized bilinearly to their stride.
    Position embeddings are resized to the image.

    Attributes: as of `TimmTrunk`, the last stride 8, 16 or 32; `unit`, of which heights and widths
        become multiples; `windows`, whether tokens are divided into windows, as in Swin and Hiera.

    Raises:
        UserError: positions cannot be resized, or the network gives no features of its layers.

    Source: Dosovitskiy et al., ICLR 2021 (position embeddings resized); stages of one depth at
    several strides as in Li et al., ECCV 2022 (ViTDet). Differs: bilinear, without weights, and
    four depths instead of the last alone.
    """

    def __init__(self, config: Transformer = Transformer(), extra: int = 0) -> None:
        super().__init__(config, extra)
        self.layer_decay = config.layer_decay

    def build(self, output_stride: int) -> dict[str, Any]:
        import timm
        from timm.models._features import FeatureGetterNet

        model = outline(self.name)
        assert model is not None
        depth = len(model.feature_info)
        flat = len({stage["reduction"] for stage in model.feature_info}) == 1
        taken = list(range(depth))[-STAGES:]
        if flat:
            taken = [max(1, round(depth * (k + 1) / STAGES)) - 1 for k in range(STAGES)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = timm.create_model(self.name, in_chans=3 + self.extra, **any_size(model))
        self.network = FeatureGetterNet(model, taken, norm=not is_hiera(model))
        info = self.network.feature_info
        self.unit = max(info.reduction())
        self.windows = not flat
        self.channels = tuple(info.channels())
        self.stride = tuple(min(FIRST_STRIDE << k, output_stride) for k in range(STAGES))
        return model.pretrained_cfg or model.default_cfg

    def check_stages(self, output_stride: int) -> None:
        """Check with two images of other shapes that the network takes them.

        Raises:
            UserError: it does not take them.
        """
        if output_stride not in (8, 16, 32):
            raise UserError(f"timm's {self.name} has no stage at stride {output_stride}: give 16")
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                for shape in ((2, 3), (1, 4)):
                    size = [self.unit * side for side in shape]
                    features = self.network(torch.zeros(1, 3 + self.extra, *size))
        except (AssertionError, RuntimeError, ValueError, TypeError) as error:
            raise UserError(
                f"timm's {self.name} has positions that cannot be resized to an image "
                f"({first_line(error)}): choose a ViT such as vit_small_patch14_dinov2, a Swin such"
                " as swin_tiny_patch4_window7_224, or a convolutional network"
            ) from error
        self.train(training)
        if tuple(feature.shape[1] for feature in features) != self.channels:
            raise UserError(f"timm's {self.name} gives no features of its layers: choose another")

    def stages(self, image: Tensor) -> list[Tensor]:
        """Features of every stage, (N, channels[k], ceil(H / stride[k]), ceil(W / stride[k])), of
        images of any size: RGB 0..255 and the extra channels, (N, 3 + extra, H, W)."""
        size = image.shape[-2:]
        # Always resized, if to the same size: the question could not be recorded for export.
        larger = [(side + self.unit - 1) // self.unit * self.unit for side in size]
        x = interpolate(self.inputs(image), larger, mode="bilinear")
        return [
            interpolate(feature, [(side + stride - 1) // stride for side in size], mode="bilinear")
            for feature, stride in zip(self.network(x), self.stride)
        ]

    def rate_factors(self) -> Iterator[tuple[nn.Parameter, float]]:
        """Each parameter with what its learning rate is multiplied by: 1 in the last layer.

        Source: Bao et al., ICLR 2022 (BEiT), layer-wise decay. Differs: one power less, since the
        layers after the trunk have a factor of their own. Layers are as timm counts them.
        """
        from timm.models import group_parameters

        model = self.network.model
        layer = group_parameters(model, model.group_matcher(), reverse=True)
        last = max(layer.values())
        for name, parameter in model.named_parameters():
            yield parameter, self.layer_decay ** (last - layer[name])


def resize_positions(
    positions: Tensor, new_size: Sequence[int], old_size: Sequence[int], num_prefix_tokens: int = 1
) -> Tensor:
    """Resize position embeddings (1, T, C) as timm does, by steps that can be recorded and kept in
    ONNX, whose runtimes differ from torch in their bicubic resizing by 0.01.

    The tokens before the grid stay; sizes are rows and columns.
    """
    grid = positions[:, num_prefix_tokens:].reshape(*old_size, -1)
    rows, columns = (cubic_weights(*sides) for sides in zip(old_size, new_size))
    grid = torch.einsum("yh,hwc,xw->yxc", rows, grid.float(), columns)
    grid = grid.reshape(1, -1, positions.shape[-1]).to(positions.dtype)
    return torch.cat((positions[:, :num_prefix_tokens], grid), dim=1)


def cubic_weights(old: int, new: int) -> Tensor:
    """Weights (new, old) of bicubic resizing with smoothing, as torch's with `antialias`.

    Source: Keys, IEEE ASSP 1981, a = -0.5; the kernel widens where the result is smaller.
    """
    scale = old / new
    centre = (torch.arange(new)[:, None] + 0.5) * scale
    x = ((torch.arange(old) + 0.5 - centre) / torch.sym_max(scale, 1.0)).abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    weight = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    return weight / weight.sum(1, keepdim=True)


@contextmanager
def recordable_positions(network: nn.Module) -> Iterator[None]:
    """Let torch.export record transformers so that an ONNX file gives the same scores.

    Raises:
        UserError: a transformer with windows; torch.export takes more than minutes for their sizes.
    """
    for part in network.modules():
        if isinstance(part, TransformerTrunk) and part.windows:
            raise UserError(
                f"timm's {part.name} cannot be exported, as it divides images into windows: a ViT "
                "such as vit_small_patch14_dinov2, or a convolutional network, can"
            )
    with ExitStack() as stack:
        for module in ("vision_transformer", "eva"):
            name = f"timm.models.{module}.resample_abs_pos_embed"
            stack.enter_context(patch(name, resize_positions))
        # DINOv3's positions divide by the size as a Python number, which would be kept.
        name = "timm.layers.pos_embed_sincos.float"
        stack.enter_context(patch(name, torch.sym_float, create=True))
        yield
