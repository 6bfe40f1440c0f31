"""Reader of released cue files: pickles of a dictionary of integer arrays, and of nothing else.

A pickle is a program, and the usual reader runs it. This one interprets only the instructions that
a dictionary of arrays needs, and calls no function that the file names. Python 2 pickles (text as
latin-1) and protocols 2 to 5 are read.
"""

from __future__ import annotations

import io
import pickletools
from pathlib import Path

import numpy as np

from base import UserError
from datalist.archive import FLOOR, RATIO, read_packed
from datalist.spec import read_text, safe_id

RECONSTRUCT = "reconstruct"
FROMBUFFER = "frombuffer"
ENCODE = "encode"
DTYPE = "dtype"
NDARRAY = "ndarray"
GLOBALS = {
    "numpy ndarray": NDARRAY,
    "numpy dtype": DTYPE,
    "numpy.core.multiarray _reconstruct": RECONSTRUCT,
    "numpy._core.multiarray _reconstruct": RECONSTRUCT,
    "numpy.core.numeric _frombuffer": FROMBUFFER,
    "numpy._core.numeric _frombuffer": FROMBUFFER,
    "_codecs encode": ENCODE,
}
"""Names that a pickled array writes down; each stands for itself and is never looked up."""

PUSH = {
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"),
    *("LONG4", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
"""Instructions that put down a constant."""
CONSTANT = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Global(str):
    """A name from `GLOBALS`, so that a string in the file cannot pass for one."""


class _Type:
    """A dtype as the file describes it."""

    def __init__(self, code: object) -> None:
        if not isinstance(code, str) or code.lstrip("<>|=") not in {
            f"{code}{size}" for code in "iu" for size in (1, 2, 4, 8)
        }:
            raise UserError(f"it holds an array of type {str(code)[:20]!r}, not of integers")
        self.dtype = np.dtype(code)

    def build(self, state: object) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise ValueError("dtype without byte order")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """An array as the file describes it."""

    value: np.ndarray | None = None

    def build(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("array without state")
        _, shape, dtype, fortran, data = state
        self.fill(data, dtype, shape, "F" if fortran else "C")

    def fill(self, data: object, dtype: object, shape: object, order: object) -> None:
        data = data.encode("latin-1") if isinstance(data, str) else data
        sides = isinstance(shape, tuple) and len(shape) <= 2
        if not sides or not all(isinstance(side, int) and side >= 0 for side in shape):
            raise ValueError("array without shape")
        if not isinstance(dtype, _Type) or not isinstance(data, bytes | bytearray):
            raise ValueError("array without data")
        value = np.frombuffer(bytes(data), dtype.dtype)
        value = value.reshape(shape, order="F" if order == "F" else "C")
        # Classes and grid positions are small: eight bytes each would be four times too much.
        info = np.iinfo(np.int16)
        small = not value.size or (info.min <= value.min() and value.max() <= info.max)
        self.value = value.astype(np.int16) if small else value


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read a pickle (gzip or not) of a dictionary from text to integer arrays.

    Returns:
        The dictionary; arrays have 0 to 2 dimensions and any integer type.

    Raises:
        UserError: the file is anything else, names anything but numpy arrays, or unpacks to more
            than max(64 MiB, 100 times its size).
    """
    data = _unpack(Path(path))
    try:
        return _interpret(data)
    except UserError as error:
        raise UserError(f"{path} is refused: {error}.") from None
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} is not a readable cue pickle ({str(error)[:80]}).") from None
    except (MemoryError, RecursionError):
        raise UserError(f"{path} is not a readable cue pickle.") from None


def read_cues(path: Path, index: Path) -> dict[str, np.ndarray]:
    """Read the entries "KEY_cues" of a cue pickle.

    Args:
        path: the file, .gz or not.
        index: list "NAME.jpg NUMBER"; only looked at where the keys are numbers.

    Returns:
        Cells of each image id, integers (3, K), rows class, row and column.

    Raises:
        UserError: there are no such entries, or the list lacks one.
    """
    arrays = read_arrays(path)
    cues = {key.removesuffix("_cues"): cue for key, cue in arrays.items() if key.endswith("_cues")}
    if not cues:
        raise UserError(f"{path} holds no entry that ends in '_cues'.")
    for key, cue in cues.items():
        if cue.ndim != 2 or len(cue) != 3:
            raise UserError(f"{path}: the cue of '{key[:40]}' is {cue.shape}, not (3, K).")
    if not all(key.isdecimal() for key in cues):
        return cues
    names = read_index(index)
    lost = [key for key in cues if key not in names]
    if lost:
        raise UserError(f"{path} has cues number {lost[0][:40]}, which {index} does not list.")
    return {names[key]: cue for key, cue in cues.items()}


def read_index(path: Path) -> dict[str, str]:
    """Read a list "NAME.jpg NUMBER", plain or gzip: number -> image id."""
    names: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        word = line.split()
        if not word:
            continue
        if len(word) != 2 or not word[1].isdecimal() or word[1] in names:
            raise UserError(f"{path}, line {number}: {line[:80]!r} is not 'NAME.jpg NUMBER'.")
        names[word[1]] = safe_id(word[0].removesuffix(".jpg"))
    return names


def _unpack(path: Path) -> bytes:
    try:
        limit = max(FLOOR, RATIO * path.stat().st_size)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}.") from None
    data = read_packed(path, limit)
    if len(data) > limit:
        raise UserError(f"{path} unpacks to more than {limit >> 20} MiB: not read.")
    return data


def _interpret(data: bytes) -> dict[str, np.ndarray]:
    stack: list = []
    marks: list[int] = []
    memo: dict[int, object] = {}

    def cut(start: int) -> list:
        if not 0 <= start <= len(stack):
            raise ValueError("stack underflow")
        items = stack[start:]
        del stack[start:]
        return items

    for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
        name = opcode.name
        if name in PUSH:
            stack.append(CONSTANT.get(name, argument))
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        elif name in TUPLES:
            stack.append(tuple(cut(len(stack) - TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(cut(marks.pop())))
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in ("SETITEM", "SETITEMS"):
            items = cut(marks.pop() if name == "SETITEMS" else len(stack) - 2)
            _set_items(stack[-1], items)
        elif name == "GLOBAL":
            stack.append(_global(argument))
        elif name == "STACK_GLOBAL":
            module, attribute = cut(len(stack) - 2)
            stack.append(_global(f"{module} {attribute}"))
        elif name == "REDUCE":
            function, arguments = cut(len(stack) - 2)
            stack.append(_construct(function, arguments))
        elif name == "BUILD":
            (state,) = cut(len(stack) - 1)
            if not isinstance(stack[-1], _Array | _Type):
                raise UserError("it gives a state to something that is no array")
            stack[-1].build(state)
        elif name == "STOP":
            break
        elif name not in ("PROTO", "FRAME"):
            raise UserError(
                f"its instruction {name} is not needed for a dictionary of integer arrays"
            )
    (result,) = stack
    if not isinstance(result, dict):
        raise UserError("it holds no dictionary")
    arrays = {}
    for key, item in result.items():
        if not isinstance(item, _Array) or item.value is None:
            raise UserError(f"its entry {key[:40]!r} is no array")
        arrays[key] = item.value
    return arrays


def _global(name: str) -> _Global:
    if name not in GLOBALS:
        raise UserError(
            f"it names '{'.'.join(name.split())[:80]}', and a cue file holds integer arrays only"
        )
    return _Global(GLOBALS[name])


def _set_items(target: object, items: list) -> None:
    if not isinstance(target, dict) or len(items) % 2:
        raise ValueError("items without dictionary")
    for key, value in zip(items[::2], items[1::2]):
        if not isinstance(key, str):
            raise UserError("a key of its dictionary is no text")
        target[key] = value


def _construct(function: object, arguments: object) -> object:
    if not isinstance(function, _Global) or not isinstance(arguments, tuple):
        raise ValueError("call of something that is no name")
    if function == RECONSTRUCT:
        return _Array()
    if function == FROMBUFFER and len(arguments) == 4:
        array = _Array()
        array.fill(*arguments)
        return array
    if function == DTYPE and arguments:
        return _Type(arguments[0])
    if function == ENCODE and arguments and isinstance(arguments[0], str):
        return arguments[0].encode("latin-1")
    raise ValueError(f"call of {function}")
