"""Features of images by a network that does not change, computed once and kept in files."""

import hashlib
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from base.file import replacing


def network_checksum(network: nn.Module, *settings: object) -> bytes:
    """Checksum of a network's tensors and of settings that change what it computes."""
    total = hashlib.blake2b(repr(settings).encode(), digest_size=16)
    for name, tensor in network.state_dict().items():
        total.update(name.encode() + tensor.cpu().numpy().tobytes())
    return total.digest()


def kept_features(
    image: Tensor,
    compute: Callable[[Tensor], Tensor],
    source: bytes,
    folder: Path | None,
    write: bool,
    pool: Executor | None = None,
) -> Tensor:
    """Features of images, read from files where they are there.

    A file is named by the checksum of the pixels and of what computes the features, so that
    features never belong to other inputs. Images go through the network one by one and features
    are rounded to float16, so that the result is the same with and without files.

    Args:
        image: uint8 (N, C, H, W).
        compute: gives the features (1, D, h, w) of one image.
        source: checksum of all that `compute` depends on.
        folder: where the files are, and new ones are put if `write`; None: nowhere.
        pool: threads for several images at once; None: one after the other.

    Returns:
        Float32 (N, D, h, w) on the images' device.
    """

    @torch.no_grad()
    def feature_of(pixels: Tensor) -> Tensor:
        checksum = hashlib.blake2b(pixels.cpu().numpy().tobytes(), digest_size=16, key=source)
        checksum.update(repr(tuple(pixels.shape)).encode())
        path = folder / f"{checksum.hexdigest()}.npy" if folder is not None else None
        if path is not None:
            with suppress(OSError, ValueError, EOFError):  # there is none, or it was cut off
                return torch.from_numpy(np.load(path, allow_pickle=False))
        feature = compute(pixels[None])[0].half().cpu().contiguous()
        if path is not None and write:
            with replacing(path) as part, open(part, "wb") as file:
                np.save(file, feature.numpy())
        return feature

    features = map(feature_of, image) if pool is None else pool.map(feature_of, image)
    return torch.stack(list(features)).to(image.device).float()
