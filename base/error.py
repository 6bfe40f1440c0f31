"""Errors that users can mend, and how a program ends with one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType


def show_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None):
    """Hook of the interpreter: Ctrl-C outside `entry`, as during imports, is one line too."""
    if issubclass(kind, KeyboardInterrupt):
        print(f"{Path(sys.argv[0]).name}: interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = show_error


class UserError(Exception):
    """Something the user can mend; the message is a sentence: what is wrong, where, what to do."""


@contextmanager
def entry(program: str) -> Iterator[None]:
    """Run a program's body: a `UserError` becomes one line and exit code 1.

    An operating system's refusal that names a file (a full disk, a missing permission) does too.
    Every other exception is a bug and keeps its traceback. Ctrl-C exits with code 130.

    Args:
        program: name to print before the message.
    """
    try:
        yield
    except UserError as error:
        sys.exit(f"{program}: {error}")
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        sys.exit(f"{program}: {where}{error.strerror or error}")
    except KeyboardInterrupt:
        print(f"{program}: interrupted; run the same command to continue", file=sys.stderr)
        sys.exit(130)
