"""Errors that users can mend, and how a program ends with one."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something the user can mend; the message: what is wrong, where, what to do."""


@contextmanager
def entry() -> Iterator[None]:
    """Run a program: a `UserError` becomes one line, "error: ...", and exit code 1.

    An operating system's refusal that names a file (a full disk, a missing permission) does too.
    Every other exception is a bug and keeps its traceback. Ctrl-C exits with code 130. Imports
    that take long belong inside, so that Ctrl-C during them is one line as well.
    """
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        sys.exit(f"error: {where}{error.strerror or error}")
    except KeyboardInterrupt:
        print("interrupted; run the same command to continue", file=sys.stderr)
        sys.exit(130)
