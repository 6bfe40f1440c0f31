"""Reads the weights in a .caffemodel without Caffe.

Source: caffe.proto of BVLC/caffe (names and numbers of the fields).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from torch import Tensor

MESSAGES = {
    "Shape": {"dim": (1, "int64*")},
    "Blob": {
        **{"num": (1, "int32"), "channels": (2, "int32"), "height": (3, "int32")},
        **{"width": (4, "int32"), "data": (5, "bytes*"), "shape": (7, "Shape")},
    },
    "Layer": {"name": (1, "string"), "blobs": (7, "Blob*")},
    "OldLayer": {"name": (4, "string"), "blobs": (6, "Blob*")},
    "Net": {"layers": (2, "OldLayer*"), "layer": (100, "Layer*")},
}
"""Fields that hold weights: number and type, with * where they repeat. The floats of a blob are
packed, and read as bytes."""
PARTS = ("weight", "bias")
"""Blobs of a layer, in their order."""


def message_type() -> Any:
    """Class of a network's message."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe")
    known = descriptor_pb2.FieldDescriptorProto
    for message, fields in MESSAGES.items():
        added = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            plain, label = kind.rstrip("*"), known.LABEL_REPEATED if "*" in kind else 1
            field = added.field.add(name=name, number=number, label=label)
            if plain in MESSAGES:
                field.type, field.type_name = known.TYPE_MESSAGE, f".caffe.{plain}"
            else:
                field.type = getattr(known, f"TYPE_{plain.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.Net"))


def read_caffemodel(path: Path) -> dict[str, Tensor]:
    """Weights of a Caffe network, float32, by name: "conv1_1.weight", "conv1_1.bias", ...

    Layers with more blobs (Caffe's batch normalisation) are left out. ValueError where the file is
    not such a message.
    """
    try:
        network = message_type().FromString(path.read_bytes())
    except DecodeError:
        raise ValueError("it is cut off, or of another format") from None
    state = {
        f"{layer.name}.{part}": read_blob(blob, part)
        for layer in (*network.layers, *network.layer)
        if len(layer.blobs) <= len(PARTS)
        for part, blob in zip(PARTS, layer.blobs)
    }
    if not state:
        raise ValueError("it holds no weights of Caffe layers")
    return state


def read_blob(blob: Any, part: str) -> Tensor:
    """One array: a weight (outputs, inputs) or (outputs, inputs, h, w), or a bias (outputs,)."""
    array = np.frombuffer(b"".join(blob.data), "<f4")
    shape = list(blob.shape.dim)
    if not blob.HasField("shape"):
        # Old files have four sides for everything, the first of them 1 for fewer dimensions.
        sides = ("num", "channels", "height", "width")
        shape = [getattr(blob, side) if blob.HasField(side) else 1 for side in sides]
        shape = shape[2:] if shape[:2] == [1, 1] else shape
    return torch.from_numpy(array.reshape([array.size] if part == "bias" else shape).copy())
