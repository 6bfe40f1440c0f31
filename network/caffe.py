"""Weights in a .caffemodel, read without Caffe and without protobuf.

The file is a protobuf message. Only the few fields that hold weights are looked at:
NetParameter has layers (100, or 2 in old files); a layer has a name (1, old: 4) and blobs (7,
old: 6); a blob has its shape (7: dim 1; old: num 1, channels 2, height 3, width 4) and floats (5).

**Source:** caffe.proto of BVLC/caffe (the numbers of the fields).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

LAYERS = {100: (1, 7), 2: (4, 6)}
"""Field of a layer in the file -> fields of its name and its blobs."""
KINDS = ("weight", "bias")
"""What the blobs of a layer are, in their order."""


def read_caffemodel(path: Path) -> dict[str, Tensor]:
    """Read the weights of a Caffe network.

    Returns:
        float32 tensors by name: "conv1_1.weight", "conv1_1.bias", ...; layers with other blobs
        than these two (Caffe's batch normalisation) are left out.

    Errors: ValueError where the file is not such a message.
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
        if 1 <= len(blobs) <= len(KINDS):
            for kind, blob in zip(KINDS, blobs):
                state[f"{name}.{kind}"] = read_blob(blob, kind)
    if not state:
        raise ValueError("it holds no weights of Caffe layers")
    return state


def read_blob(blob: memoryview, kind: str) -> Tensor:
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
        # Old files write everything with four sides, the first of them 1 where there are less.
        shape = [old.get(k, 1) for k in (1, 2, 3, 4)]
        shape = shape[2:] if shape[:2] == [1, 1] else shape
    if kind == "bias":
        shape = [array.size]
    return torch.from_numpy(array.reshape(shape).copy())


def sides(row: int | memoryview) -> list[int]:
    """Sides of a shape, packed into one field or alone."""
    if isinstance(row, int):
        return [row]
    found, place = [], 0
    while place < len(row):
        side, place = varint(row, place)
        found.append(side)
    return found


def messages(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Fields of a protobuf message: numbers as int, everything longer as bytes."""
    place = 0
    while place < len(data):
        key, place = varint(data, place)
        if key & 7 == 0:
            value, place = varint(data, place)
            yield key >> 3, value
            continue
        if key & 7 == 2:
            length, place = varint(data, place)
        elif key & 7 in (1, 5):
            length = 8 if key & 7 == 1 else 4
        else:
            raise ValueError(f"a field of kind {key & 7}")
        if length > len(data) - place:
            raise ValueError("it is cut off")
        yield key >> 3, data[place : place + length]
        place += length


def varint(data: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError("it is cut off")
        value |= (data[place] & 127) << shift
        place += 1
        if data[place - 1] < 128:
            return value, place
    raise ValueError("a number of more than ten bytes")
