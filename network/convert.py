"""Weights released for RecurSeed and EdgePredictMix, under the names that they have here."""

from torch import Tensor, nn

from base import UserError
from network.weight import Report, read_state

RELEASED = {
    "model.": "trunk.",
    "classifier.": "classifier.",
    **{f"aspp.aspp{k}.conv.": f"decoder.aspp.convs.{k - 1}.0." for k in range(1, 5)},
    **{f"aspp.aspp{k}.bn.": f"decoder.aspp.convs.{k - 1}.1." for k in range(1, 5)},
    "aspp.global_avg_pool.1.conv.": "decoder.aspp.convs.4.1.",
    "aspp.global_avg_pool.1.bn.": "decoder.aspp.convs.4.2.",
    "aspp.block.0.conv.": "decoder.aspp.project.0.",
    "aspp.block.0.bn.": "decoder.aspp.project.1.",
    "decoder.low_block.conv.": "decoder.reduce.0.",
    "decoder.low_block.bn.": "decoder.reduce.1.",
    "decoder.classifier.0.conv.": "decoder.join.0.0.",
    "decoder.classifier.0.bn.": "decoder.join.0.1.",
    "decoder.classifier.2.conv.": "decoder.join.2.0.",
    "decoder.classifier.2.bn.": "decoder.join.2.1.",
    "decoder.classifier.4.": "decoder.score.",
}
"""Prefix of a released name (core/networks.py and layers.py) -> prefix of ours, which fits
`network.rsepm.RSEPM` and, without the classifier, `network.deeplabv3.DeepLabV3Plus`."""


def rename(key: str) -> str | None:
    """Our name of a released one; None for one that has no place here."""
    key = key.removeprefix("module.")
    for theirs, ours in RELEASED.items():
        if key.startswith(theirs):
            return ours + key[len(theirs) :]
    return None


def load_released(network: nn.Module, path: str) -> tuple[Report, dict[str, str]]:
    """Copy a released state dict into a network, whole or not at all.

    Args:
        network: `RSEPM` or `DeepLabV3Plus` of the published size.
        path: released file, .pth or .safetensors.

    Returns:
        Report of keys, and the table of released names -> ours of all that were copied.

    Errors: UserError for an unusable file, for one that lacks a tensor of the network, and for
    shapes that do not fit.
    """
    state = read_state(path)
    wanted = {k: v for k, v in network.state_dict().items() if "normalise." not in k}
    table = {key: name for key in state if (name := rename(key)) in wanted}
    found: dict[str, Tensor] = {name: state[key] for key, name in table.items()}
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        raise UserError(
            f"{path}: not the released network of this stage; it lacks {len(missing)} of "
            f"{len(wanted)} tensors, the first is {missing[0]}"
        )
    for name, value in found.items():
        if value.shape != wanted[name].shape:
            raise UserError(
                f"{path}: {name} is {tuple(value.shape)}, the network needs "
                f"{tuple(wanted[name].shape)}; give the data set that it was trained on"
            )
    network.load_state_dict(found, strict=False)  # the rest is the colour convention
    return Report(path, used=sorted(found), unused=sorted(state.keys() - table.keys())), table
