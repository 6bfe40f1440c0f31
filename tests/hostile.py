"""Files as broken disks, cut connections, careless programs and ill will make them.

Each maker draws from a `random.Random`, so that a case is told by its seed and number alone.
"""

import gzip
import io
import json
import pickletools
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

NUMBERS = (0, -1, 1, 2, 255, 256, 2**15, 2**31 - 1, 2**31, 2**63, -(2**63), 10**30, 1e308, -0.5)
NAMES = (
    "../x", "..", ".", "/etc/passwd", "C:\\x", "a/b", "a\\b", "", " ", "x" * 300, "a\0b", "\u202ex",
    "ü", "😀", "-", "nul", "~", "$HOME", "%00", "a,b", "a;b", "\ufeff",
)  # fmt: skip
TOKENS = (
    b"\0", b"\n", b"\r", b"\t", b" ", b",", b";", b'"', b"'", b"<", b">", b"&", b"&amp;", b"&a;",
    b"<!DOCTYPE a>", b'<!DOCTYPE a [<!ENTITY a "aaaa">]>', b"]]>", b'<!ENTITY x SYSTEM "file:///x">',
    b"<![CDATA[", b"<!--", b"<?xml version='1.0' encoding='utf-16'?>", b"<object>", b"</object>",
    b"<name>cat</name>", b"</annotation>", b"../", b"..\\", b"/etc/passwd", b"-1", b"1e999", b"NaN",
    b"9" * 5000, b"[" * 3000, b"{" * 3000, b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80",
    b"\x1f\x8b",
    b"PK\x03\x04", b"a" * 70_000, b"\xe2\x80\xae", b"#", b"id", b"background",
)  # fmt: skip
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I", "CMYK", "YCbCr", "F")
OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]


def damage(rng: random.Random, whole: bytes) -> bytes:
    """Bytes with some changed, cut off, doubled, put in or taken out; now and then any bytes."""
    if rng.random() < 0.03:
        return rng.randbytes(rng.randrange(300))
    data = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        kind = rng.choice(("change", "bit", "cut", "token", "bytes", "double", "remove", "number"))
        if kind == "change" and place < len(data):
            data[place] = rng.randrange(256)
        elif kind == "bit" and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif kind == "cut" and rng.random() < 0.3:
            del data[place:]
        elif kind == "token":
            data[place:place] = rng.choice(TOKENS)
        elif kind == "bytes":
            data[place:place] = rng.randbytes(rng.randint(1, 8))
        elif kind == "double":
            data[place:place] = data[place : place + rng.randint(1, 60)]
        elif kind == "remove":
            del data[place : place + rng.randint(1, 20)]
        elif kind == "number" and place + 4 <= len(data):
            value = int(rng.choice(NUMBERS)) % 2**32
            data[place : place + 4] = struct.pack(rng.choice("<>") + "I", value)
    return bytes(data)


def text(*wholes: bytes) -> Callable[[random.Random], bytes]:
    """Damaged texts, now and then packed or in another encoding."""

    def make(rng: random.Random) -> bytes:
        data = damage(rng, rng.choice(wholes))
        kind = rng.random()
        if kind < 0.1:
            return damage(rng, gzip.compress(data))
        return data.decode("latin-1").encode("utf-16") if kind < 0.15 else data

    return make


def odd_value(rng: random.Random) -> Any:
    """A value of JSON that stands where another was meant."""
    return rng.choice(
        (
            *(None, True, False, [], {}, [[]], [None], {"a": []}, float("nan"), float("inf")),
            *(rng.choice(NUMBERS), rng.choice(NAMES), [rng.choice(NUMBERS)] * rng.randint(1, 9)),
            *([rng.choice(NAMES)], [[rng.choice(NUMBERS)] * 6], "9" * 400, "cat", "dog"),
        )
    )


def odd_tree(rng: random.Random, tree: Any) -> Any:
    """A tree of lists and dictionaries with one place replaced, taken away, or doubled."""
    if not isinstance(tree, dict | list) or not tree or rng.random() < 0.1:
        return odd_value(rng)
    places = list(tree) if isinstance(tree, dict) else range(len(tree))
    place = rng.choice(places)
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    kind = rng.random()
    if kind < 0.1:
        del copy[place]
    elif kind < 0.2 and isinstance(copy, list):
        copy.insert(place, copy[place])
    elif kind < 0.2:
        copy[rng.choice(NAMES)] = copy[place]
    else:
        copy[place] = odd_tree(rng, copy[place])
    return copy


def odd_json(rng: random.Random, tree: Any) -> bytes:
    """JSON text whose tree or bytes are damaged."""
    if rng.random() < 0.7:
        for _ in range(rng.randint(1, 3)):
            tree = odd_tree(rng, tree)
        return json.dumps(tree).encode("utf-8", "surrogatepass")
    return damage(rng, json.dumps(tree).encode())


def chunk(name: bytes, content: bytes) -> bytes:
    """One chunk of a PNG, checksum included."""
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def odd_png(rng: random.Random) -> bytes:
    """A PNG of any mode, with odd heads, palettes and chunks under right checksums."""
    if rng.random() < 0.3:
        side = rng.choice((1, 7, 65_535, 2**31 - 1, 2**32 - 1))
        other = rng.choice((0, 1, 9, side))
        depth, colour = rng.choice((1, 2, 4, 8, 16, 3)), rng.choice((0, 2, 3, 4, 6, 5))
        head = struct.pack(">IIBBBBB", side, other, depth, colour, 0, 0, rng.randrange(3))
        parts = [chunk(b"IHDR", head)]
        if rng.random() < 0.6:
            parts.append(chunk(b"PLTE", rng.randbytes(rng.choice((0, 3, 7, 768, 900)))))
        if rng.random() < 0.3:
            parts.append(chunk(b"tRNS", rng.randbytes(rng.randrange(9))))
        data = zlib.compress(bytes(rng.choice((0, 10, 1000, 1 << 20))))
        parts += [chunk(b"IDAT", data), chunk(b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    mode = rng.choice(MODES)
    size = (rng.randint(1, 20), rng.randint(1, 20))
    image = Image.frombytes("RGB", size, rng.randbytes(3 * size[0] * size[1]))
    notes = {}
    if mode not in ("I;16", "RGB"):
        image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    elif mode == "I;16":
        image = image.convert("I").convert("I;16")
    if mode == "P" and rng.random() < 0.5:
        notes["transparency"] = rng.randrange(256)
    kind = "PNG" if mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else "TIFF"
    if rng.random() < 0.2 and mode in ("L", "RGB", "CMYK"):
        kind, notes = rng.choice(("JPEG", "BMP", "WEBP") if mode == "RGB" else ("JPEG",)), {}
    file = io.BytesIO()
    image.save(file, kind, **notes)
    return file.getvalue() if rng.random() < 0.3 else damage(rng, file.getvalue())


def odd_array(rng: random.Random, array: np.ndarray) -> np.ndarray:
    """An array of other numbers, another shape or another type."""
    kind = rng.randrange(5)
    if kind == 0 and array.dtype.kind in "iufb":
        return array.astype(
            rng.choice(("i1", "u8", "f2", "f8", "c8", "S3", "U2", "M8[s]", ">i4", "?"))
        )
    if kind == 1:
        return array.reshape(-1)[: rng.randrange(array.size + 1)]
    if kind == 2:
        return np.array([array, array]) if array.ndim < 5 else array[0]
    changed = array.copy().reshape(-1)
    if changed.size and changed.dtype.kind in "iu":
        info = np.iinfo(changed.dtype)
        changed[rng.randrange(changed.size)] = min(
            max(int(rng.choice(NUMBERS)), info.min), info.max
        )
    elif changed.size and changed.dtype.kind == "U":
        changed = changed.astype("U300")
        changed[rng.randrange(changed.size)] = rng.choice(NAMES)
    return changed.reshape(array.shape)


def npy(rng: random.Random, array: np.ndarray) -> bytes:
    """An .npy file, now and then under a head that states another shape."""
    file = io.BytesIO()
    np.save(file, array)
    data = file.getvalue()
    if rng.random() < 0.1:
        shape = rng.choice((b"(99999999999,)", b"(-1,)", b"(2,) * 9**9", b"()", b"(1, 2, 3, 4)"))
        head = b"{'descr': '<i8', 'fortran_order': False, 'shape': " + shape + b", }\n"
        data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data[80:]
    return data


def odd_npz(rng: random.Random, arrays: dict[str, np.ndarray]) -> bytes:
    """An .npz with odd arrays, or with damaged bytes."""
    arrays = dict(arrays)
    for _ in range(rng.randint(0, 2)):
        name = rng.choice(list(arrays))
        arrays[name] = odd_array(rng, arrays[name])
    if rng.random() < 0.1:
        arrays.pop(rng.choice(list(arrays)))
    file = io.BytesIO()
    kind = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", npy(rng, array))
    data = file.getvalue()
    return damage(rng, data) if rng.random() < 0.5 else data


def odd_pickle(rng: random.Random, whole: bytes) -> bytes:
    """A pickle with damaged bytes, or any instructions with any arguments."""
    if rng.random() < 0.7:
        return damage(rng, whole)
    parts = [
        rng.choice(OPCODES) + rng.randbytes(rng.randrange(5)) for _ in range(rng.randrange(60))
    ]
    return b"\x80\x02" + b"".join(parts) + b"."


def field(number: int, value: int | bytes) -> bytes:
    """A field of a protobuf message."""

    def number_bytes(value):
        found = []
        while value > 127:
            found.append(value % 128 + 128)
            value //= 128
        return bytes([*found, value])

    if isinstance(value, int):
        return number_bytes(number << 3) + number_bytes(value)
    return number_bytes(number << 3 | 2) + number_bytes(len(value)) + value


def caffemodel(state: dict[str, np.ndarray], old: bool) -> bytes:
    """The bytes that Caffe writes for layers of weights and biases, by "LAYER.KIND"."""
    layers = {}
    for key, value in state.items():
        layers.setdefault(key.rpartition(".")[0], []).append(value)
    data = field(1, b"net")
    for name, arrays in layers.items():
        blobs = []
        for array in arrays:
            shape = tuple(array.shape)
            if old:
                shape = (1,) * (4 - len(shape)) + shape
                sides = b"".join(field(k, side) for k, side in enumerate(shape, 1))
            else:
                sides = field(7, b"".join(field(1, side) for side in shape))
            blobs.append(sides + field(5, array.astype("<f4").tobytes()))
        name_field, blob_field = (4, 6) if old else (1, 7)
        layer = field(name_field, name.encode()) + b"".join(field(blob_field, b) for b in blobs)
        data += field(2 if old else 100, layer)
    return data


def odd_tensors(rng: random.Random, state: dict) -> dict:
    """A state dict with a tensor renamed, reshaped, of another type, taken away or no tensor."""
    state = dict(state)
    key = rng.choice(list(state))
    value = state.pop(key)
    kind = rng.randrange(6)
    if kind == 0:
        state[rng.choice(NAMES)] = value
    elif kind == 1:
        state[key] = value.flatten()
    elif kind == 2:
        state[key] = value.to(rng.choice((torch.float64, torch.int8, torch.bool, torch.complex64)))
    elif kind == 3:
        state[key] = torch.zeros(1).expand(rng.choice(((1 << 40,), (1 << 20, 1 << 20), (0, 5))))
    elif kind == 4:
        state[key] = odd_value(rng)
    return state


def odd_recipe(rng: random.Random, recipe: dict) -> dict:
    """A stored recipe with another group, field, or number of a tuple in one of its groups."""
    recipe = dict(recipe)
    key = rng.choice(list(recipe))
    old = recipe[key]
    if isinstance(old, dict) and rng.random() < 0.8:
        recipe[key] = odd_recipe(rng, old)
    elif isinstance(old, tuple) and rng.random() < 0.7:
        changed = list(old)
        changed[rng.randrange(len(old))] = rng.choice(NUMBERS)
        recipe[key] = tuple(changed)
    else:
        recipe[key] = odd_value(rng)
    return recipe
