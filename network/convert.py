"""Weights that other systems released, renamed to our layers."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from base import UserError
from network.weight import VGG_FEATURE, Report, read_state

BLOCKS = {
    **{f"aspp.aspp{k}": f"decoder.aspp.convs.{k - 1}" for k in range(1, 5)},
    "aspp.block.0": "decoder.aspp.project",
    "decoder.low_block": "decoder.reduce",
    "decoder.classifier.0": "decoder.join.0",
    "decoder.classifier.2": "decoder.join.2",
}
"""Convolutions with their normalisation."""
RELEASED = {
    **{"model.": "trunk.", "classifier.": "classifier.", "decoder.classifier.4.": "decoder.score."},
    **{f"{theirs}.conv.": f"{ours}.0." for theirs, ours in BLOCKS.items()},
    **{f"{theirs}.bn.": f"{ours}.1." for theirs, ours in BLOCKS.items()},
    "aspp.global_avg_pool.1.conv.": "decoder.aspp.convs.4.1.",
    "aspp.global_avg_pool.1.bn.": "decoder.aspp.convs.4.2.",
}
"""Prefix of a released name (core/networks.py and layers.py) -> prefix of ours, which fits
`network.rsepm.RSEPM` and, without the classifier, `network.deeplabv3.DeepLabV3Plus`."""

SEC_PYTORCH = {
    **{f"features.{index}.": f"trunk.{name}." for name, index in VGG_FEATURE.items()},
    **{f"{name}.": f"{name}." for name in ("fc6", "fc7", "fc8")},
}
"""halbielee/SEC_pytorch, network/DeepLab_LargeFOV.py -> `network.vgg.LargeFOV`."""

SEAM = {**{f"{name}.": f"{name}." for name in ("fc8", "f8_3", "f8_4", "f9")}, "": "trunk."}
"""YudeWang/SEAM, network/resnet38_SEAM.py -> `network.seam.SEAMNet` on ResNet-38d."""

LOCATE = {
    "resnet_features.": "trunk.",
    **{f"aspp{k}.atrous_convolution.": f"decoder.aspp.convs.{k - 1}.0." for k in range(1, 5)},
    **{f"aspp{k}.bn.": f"decoder.aspp.convs.{k - 1}.1." for k in range(1, 5)},
    "global_avg_pool.1.": "decoder.aspp.convs.4.1.",
    "global_avg_pool.2.": "decoder.aspp.convs.4.2.",
    "conv1.": "decoder.aspp.project.0.",
    "bn1.": "decoder.aspp.project.1.",
    "conv2.": "decoder.reduce.0.",
    "bn2.": "decoder.reduce.1.",
    "last_conv.0.": "decoder.join.0.0.",
    "last_conv.1.": "decoder.join.0.1.",
    "last_conv.3.": "decoder.join.2.0.",
    "last_conv.4.": "decoder.join.2.1.",
    "last_conv.6.": "decoder.score.",
}
"""wjlbnw/SegmentationFromLocalization, network/edge_SEAM.py -> `network.deeplabv3.DeepLabV3Plus`
with a prompt channel."""

IRN_CAM = {"resnet50.": "trunk.", "classifier.": "fc8."}
"""jiwoon-ahn/irn, net/resnet50_cam.py -> `network.seam.SEAMNet` on ResNet-50, whose pixel
correlation it lacks."""

IRN = {
    "resnet50.": "trunk.",
    **{f"fc_edge{k}.": f"take{k}." for k in range(1, 6)},
    "fc_edge6.": "score.",
}
"""jiwoon-ahn/irn, net/resnet50_irn.py -> `network.boundary.Boundary`."""


def without_background(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """SEAM's classifier without its output for the background, which no loss trains."""
    weight = state.get("fc8.weight")
    return state if weight is None else state | {"fc8.weight": weight[1:]}


@dataclass(frozen=True)
class Layout:
    """How the names of a released state dict map to ours."""

    names: dict[str, str]
    """Prefix of a released name -> prefix of ours; the first that fits counts."""
    absent: tuple[str, ...] = ()
    """Prefixes of our names that the released network lacks; they keep their values."""
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]] = field(default=lambda state: state)
    """Applied to the state dict under its released names."""

    def rename(self, key: str) -> str | None:
        """Our name of a released tensor; None where there is no counterpart."""
        fitting = (theirs for theirs in self.names if key.startswith(theirs))
        theirs = next(fitting, None)
        return None if theirs is None else self.names[theirs] + key.removeprefix(theirs)


LAYOUTS = {
    "recurseed": Layout(RELEASED),
    "sec-pytorch": Layout(SEC_PYTORCH),
    "seam": Layout(SEAM, change=without_background),
    "locate": Layout(LOCATE),
    "irn-cam": Layout(IRN_CAM, absent=("f8_3.", "f8_4.", "f9.")),
    "irn": Layout(IRN),
}
"""System -> names of its released weights."""


def load_released(
    network: nn.Module, path: str, system: str = "recurseed"
) -> tuple[Report, dict[str, str]]:
    """Copy a released state dict into a network; on an error nothing is copied.

    Returns:
        Report of keys, and the table of released names -> ours of all that were copied.

    Raises:
        UserError: for an unusable file, for one that lacks a tensor of the network, and for shapes
            that do not fit.
    """
    layout = LAYOUTS[system]
    state = {key.removeprefix("module."): value for key, value in read_state(path).items()}
    state = layout.change(state)
    wanted = {
        key: value
        for key, value in network.state_dict().items()
        if "normalise." not in key and not key.startswith(layout.absent or ("\0",))
    }
    names = {key: layout.rename(key) for key in state}
    table = {key: name for key, name in names.items() if name is not None and name in wanted}
    renamed = {name: state[key] for key, name in table.items()}
    # Files of torch before 0.4.1 lack these counters, which nothing here reads.
    lacking = [key for key in wanted if key not in renamed]
    missing = sorted(key for key in lacking if not key.endswith("num_batches_tracked"))
    if missing:
        raise UserError(
            f"{path}: not the released network of this stage; it lacks {len(missing)} of "
            f"{len(wanted)} tensors, the first is {missing[0]}"
        )
    for name, value in renamed.items():
        if value.shape != wanted[name].shape:
            raise UserError(
                f"{path}: {name} is {tuple(value.shape)}, the network needs "
                f"{tuple(wanted[name].shape)}; give the data set that it was trained on"
            )
    network.load_state_dict(renamed, strict=False)  # the other tensors are the colour convention
    unused = sorted(state.keys() - table.keys())
    return Report(path, used=sorted(renamed), missing=sorted(lacking), unused=unused), table
