"""Reader of released cue files: pickles of a dictionary of integer arrays, and of nothing else.

A pickle is a program, and the usual reader runs it. Here Python's own interpreter of pickles knows
only the instructions that a dictionary of arrays needs, and the names in a file stand for classes
of this module; nothing that a file names is looked up. Python 2 pickles (text as latin-1) and
protocols 2 to 5 are read.
"""

import io
import pickle
import pickletools
import re
from pathlib import Path

import numpy as np

from base import UserError
from datalist.archive import FLOOR, RATIO, read_packed
from datalist.spec import read_text, safe_id

INSTRUCTIONS = {
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"),
    *("LONG4", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "BINPUT", "LONG_BINPUT", "PUT"),
    *("MEMOIZE", "BINGET", "LONG_BINGET", "GET", "MARK", "EMPTY_TUPLE", "TUPLE1", "TUPLE2"),
    *("TUPLE3", "TUPLE", "EMPTY_DICT", "SETITEM", "SETITEMS", "GLOBAL", "STACK_GLOBAL", "REDUCE"),
    *("BUILD", "STOP", "PROTO", "FRAME"),
}
"""What a dictionary of integer arrays needs."""


class _Type:
    """A dtype as the file describes it."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not re.fullmatch("[<>|=]*[iu][1248]", code):
            raise UserError(f"it holds an array of type {str(code)[:20]!r}, not of integers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise ValueError("dtype without byte order")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """An array as the file describes it."""

    value: np.ndarray | None = None

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        self.fill(data, dtype, shape, "F" if fortran else "C")

    def fill(self, data: object, dtype: object, shape: object, order: object) -> None:
        data = data.encode("latin-1") if isinstance(data, str) else data
        sides = isinstance(shape, tuple) and len(shape) <= 2
        if not sides or not all(isinstance(side, int) and side >= 0 for side in shape):
            raise ValueError("array without shape")
        if not isinstance(dtype, _Type) or not isinstance(data, bytes):
            raise ValueError("array without data")
        value = np.frombuffer(data, dtype.dtype)
        value = value.reshape(shape, order="F" if order == "F" else "C")
        # Classes and grid positions are small: eight bytes each would be four times too much.
        info = np.iinfo(np.int16)
        small = not value.size or (info.min <= value.min() and value.max() <= info.max)
        self.value = value.astype(np.int16) if small else value


class _Buffer(_Array):
    """An array as protocol 5 describes it."""

    __init__ = _Array.fill


class _Bytes(bytes):
    """Bytes that protocol 2 writes as text."""

    def __new__(cls, text: str, *_: object) -> "_Bytes":
        return super().__new__(cls, text.encode("latin-1"))

    def __setstate__(self, state: object) -> None:
        raise ValueError("state of bytes")


GLOBALS = {
    "numpy ndarray": _Array,
    "numpy dtype": _Type,
    "numpy.core.multiarray _reconstruct": _Array,
    "numpy._core.multiarray _reconstruct": _Array,
    "numpy.core.numeric _frombuffer": _Buffer,
    "numpy._core.numeric _frombuffer": _Buffer,
    "_codecs encode": _Bytes,
}
"""What the names that a pickled array writes down stand for."""


class _Dispatch(dict):
    """Python's functions for the allowed instructions, by their code."""

    def __missing__(self, code: int) -> None:
        name = pickletools.code2op[chr(code)].name if chr(code) in pickletools.code2op else code
        raise UserError(f"its instruction {name} is not needed for a dictionary of integer arrays")


class _Unpickler(pickle._Unpickler):  # the one in C reserves as much memory as a file asks for
    dispatch = _Dispatch(
        (code, function)
        for code, function in pickle._Unpickler.dispatch.items()
        if pickletools.code2op[chr(code)].name in INSTRUCTIONS
    )
    dispatch[pickle.BYTEARRAY8[0]] = dispatch[pickle.BINBYTES8[0]]

    def find_class(self, module: str, name: str) -> type:
        if f"{module} {name}" not in GLOBALS:
            asked = f"{module}.{name}"[:80]
            raise UserError(f"it names '{asked}', and a cue file holds integer arrays only")
        return GLOBALS[f"{module} {name}"]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read a pickle (gzip or not) of a dictionary from text to integer arrays of 0 to 2 dimensions.

    Raises:
        UserError: the file is anything else, names anything but numpy arrays, or unpacks to more
            than max(64 MiB, 100 times its size).
    """
    try:
        limit = max(FLOOR, RATIO * path.stat().st_size)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    data = read_packed(path, limit)
    if len(data) > limit:
        raise UserError(f"{path} unpacks to more than {limit >> 20} MiB: not read")
    try:
        content = _Unpickler(io.BytesIO(data), encoding="latin-1").load()
        if not isinstance(content, dict):
            raise UserError("it holds no dictionary")
        for key, item in content.items():
            if not isinstance(key, str):
                raise UserError("a key of its dictionary is not text")
            if not isinstance(item, _Array) or item.value is None:
                raise UserError(f"its entry {key[:40]!r} is not an array")
        return {key: item.value for key, item in content.items()}
    except UserError as error:
        raise UserError(f"{path} is refused: {error}") from None
    except Exception as error:  # whatever instructions without sense lead to
        raise UserError(f"{path} is not a readable cue pickle ({str(error)[:80]})") from None


def read_cues(path: Path, index: Path) -> dict[str, np.ndarray]:
    """Read the entries "KEY_cues" of a cue pickle: cells of each image id, integers (3, K).

    Rows are class, row and column. `index`, a list "NAME.jpg NUMBER", turns keys that are numbers
    into ids.

    Raises:
        UserError: there are no such entries, or the list lacks one.
    """
    arrays = read_arrays(path)
    cues = {key.removesuffix("_cues"): cue for key, cue in arrays.items() if key.endswith("_cues")}
    if not cues:
        raise UserError(f"{path} holds no entry that ends in '_cues'")
    for key, cue in cues.items():
        if cue.ndim != 2 or len(cue) != 3:
            raise UserError(f"{path}: the cue of '{key[:40]}' is {cue.shape}, not (3, K)")
    if not all(key.isdecimal() for key in cues):
        return cues
    names = read_index(index)
    if lost := [key for key in cues if key not in names]:
        raise UserError(f"{path} has cues number {lost[0][:40]}, which {index} does not list")
    return {names[key]: cue for key, cue in cues.items()}


def read_index(path: Path) -> dict[str, str]:
    """Read a list "NAME.jpg NUMBER", plain or gzip: number -> image id."""
    names: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        match line.split():
            case []:
                continue
            case [name, key] if key.isdecimal() and key not in names:
                names[key] = safe_id(name.removesuffix(".jpg"))
            case _:
                raise UserError(f"{path}, line {number}: {line[:80]!r} is not 'NAME.jpg NUMBER'")
    return names
