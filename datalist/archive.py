"""Arrays in .npz and .npy files, and packed files, read within a bound on memory."""

import gzip
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from tokenize import TokenError
from typing import IO

import numpy as np

from base import UserError
from base.file import replacing

FLOOR = 64 << 20
"""Bytes that any file may unpack to."""
RATIO = 100
"""How often its own size a longer file may unpack to; cue files reach 4 to 10."""
DAMAGE = (ValueError, TypeError, SyntaxError, OverflowError, MemoryError, KeyError, TokenError)
"""What numpy raises for damaged headers of arrays."""


def read_packed(path: Path, limit: int) -> bytes:
    """Read a file, plain or gzip (by its first bytes), up to one byte beyond `limit`.

    The byte beyond tells the caller that the file holds more. UserError where it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            with gzip.open(file) if packed else file as stream:
                return stream.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "damaged gzip file"
        raise UserError(f"cannot read {path}: {reason}") from None


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as a compressed .npz, whole or not at all."""
    with replacing(path) as part, open(part, "wb") as file:
        np.savez_compressed(file, **arrays)


def read_npz(path: str | Path, wanted: Mapping[str, tuple[str, int]]) -> dict[str, np.ndarray]:
    """Read named arrays of a .npz, each checked before memory is taken for it.

    Args:
        wanted: name -> (codes of dtypes as in `numpy.dtype.kind`, number of dimensions).

    Returns:
        The wanted arrays; further ones in the file are not looked at.

    Raises:
        UserError: the file is not an .npz, lacks an array, holds one of another dtype, or unpacks
            to more than max(64 MiB, 100 times its size).
    """
    path = Path(path)
    try:
        budget = max(FLOOR, RATIO * path.stat().st_size)
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            if lost := [name for name in wanted if f"{name}.npy" not in members]:
                raise UserError(f"{path} has no array '{lost[0]}': it is another file")
            if sum(members[f"{name}.npy"].file_size for name in wanted) > budget:
                raise UserError(f"{path} unpacks to more than {budget >> 20} MiB: not read")
            return {name: _read_member(archive, name, *kind) for name, kind in wanted.items()}
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        raise UserError(f"{path} is damaged or not an .npz file: make it again") from None
    except DAMAGE as error:
        raise UserError(f"{path} holds a damaged array ({_line(error)})") from None


def _read_member(archive: zipfile.ZipFile, name: str, codes: str, dimensions: int) -> np.ndarray:
    with archive.open(f"{name}.npy") as file:
        try:
            return _read_array(file, codes, dimensions)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def read_npy(path: Path, codes: str, dimensions: int) -> np.ndarray:
    """Read a .npy of an array, checked before memory is taken for it; arguments as of `read_npz`.

    Raises:
        UserError: it is not a .npy of such an array.
    """
    try:
        with open(path, "rb") as file:
            return _read_array(file, codes, dimensions)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except DAMAGE as error:
        raise UserError(f"{path} is not a readable array ({_line(error)})") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:80]


def _read_array(file: IO[bytes], codes: str, dimensions: int) -> np.ndarray:
    # numpy's own reader allocates memory for the shape in the header before it reads the data, and
    # a header can state any shape.
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"array format {version} is not known")
    header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
    shape, fortran, dtype = header(file)
    if dtype.hasobject or dtype.kind not in codes or len(shape) != dimensions:
        raise ValueError(f"it is {dtype} of shape {shape}")
    length = math.prod((dtype.itemsize, *shape))
    data = file.read(length + 1)
    if len(data) != length:
        raise ValueError(f"it is not as long as its shape {shape}")
    array = np.frombuffer(data, dtype)
    return array.reshape(shape, order="F" if fortran else "C")
