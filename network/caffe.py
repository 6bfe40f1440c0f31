"""Reads the weights in a .caffemodel without Caffe and protobuf.

The file is a protobuf message. Only the fields that hold weights are read:
NetParameter has layers (100, or 2 in old files); a layer has a name (1, old: 4) and blobs (7,
old: 6); a blob has its shape (7: dim 1; old: num 1, channels 2, height 3, width 4) and floats (5).

Source: caffe.proto of BVLC/caffe (the numbers of the fields).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

LAYERS = {100: (1, 7), 2: (4, 6)}
"""Field of a layer in the file -> fields of its name and its blobs."""
PARTS = ("weight", "bias")
"""Blobs of a layer, in their order."""


def read_caffemodel(path: Path) -> dict[str, Tensor]:
    """Read the weights of a Caffe network.

    Returns:
        float32 tensors by name: "conv1_1.weight", "conv1_1.bias", ...; layers with more blobs
        (Caffe's batch normalisation) are left out.

    Raises:
        ValueError: where the file is not such a message.
    """
    data = memoryview(path.read_bytes())
    state = {}
    for number, layer in messages(data):
        if number not in LAYERS or not isinstance(layer, memoryview):
            continue
        name_field, blob_field = LAYERS[number]
        inner: list[Any] = list(messages(layer))
        name = "".join(str(bytes(v), "utf-8") for k, v in inner if k == name_field)
        blobs = [v for k, v in inner if k == blob_field]
        if 1 <= len(blobs) <= len(PARTS):
            for part, blob in zip(PARTS, blobs):
                state[f"{name}.{part}"] = read_blob(blob, part)
    if not state:
        raise ValueError("it holds no weights of Caffe layers")
    return state


def read_blob(blob: memoryview, part: str) -> Tensor:
    """One array: a weight (outputs, inputs) or (outputs, inputs, h, w), or a bias (outputs,)."""
    old, shape, values = {}, None, []
    for number, value in messages(blob):
        if number in (1, 2, 3, 4) and isinstance(value, int):
            old[number] = value
        elif number == 7 and isinstance(value, memoryview):
            shape = [side for k, row in messages(value) if k == 1 for side in sides(row)]
        elif number == 5 and isinstance(value, memoryview):
            values.append(np.frombuffer(value, "<f4"))
    array = np.concatenate(values) if values else np.empty(0, np.float32)
    if shape is None:
        # Old files have four sides for everything, the first of them 1 for fewer dimensions.
        shape = [old.get(k, 1) for k in (1, 2, 3, 4)]
        shape = shape[2:] if shape[:2] == [1, 1] else shape
    if part == "bias":
        shape = [array.size]
    return torch.from_numpy(array.reshape(shape).copy())


def sides(row: int | memoryview) -> list[int]:
    """Sides of a shape: one number, or several packed into a field."""
    if isinstance(row, int):
        return [row]
    values, offset = [], 0
    while offset < len(row):
        side, offset = varint(row, offset)
        values.append(side)
    return values


def messages(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of a protobuf message: int, or the bytes of everything else."""
    offset = 0
    while offset < len(data):
        key, offset = varint(data, offset)
        if key & 7 == 0:
            value, offset = varint(data, offset)
            yield key >> 3, value
            continue
        if key & 7 == 2:
            length, offset = varint(data, offset)
        elif key & 7 in (1, 5):
            length = 8 if key & 7 == 1 else 4
        else:
            raise ValueError(f"it has a field of wire type {key & 7}")
        if length > len(data) - offset:
            raise ValueError("it is cut off")
        yield key >> 3, data[offset : offset + length]
        offset += length


def varint(data: memoryview, offset: int) -> tuple[int, int]:
    """A number of seven bits per byte, lowest first, and the offset after it."""
    value = 0
    for shift in range(0, 70, 7):
        if offset >= len(data):
            raise ValueError("it is cut off")
        value |= (data[offset] & 127) << shift
        offset += 1
        if data[offset - 1] < 128:
            return value, offset
    raise ValueError("a number of more than ten bytes")
