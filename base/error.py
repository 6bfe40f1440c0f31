"""Errors that users can mend, and how a program ends with one."""

import _thread
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class UserError(Exception):
    """Something the user can mend; the message: what is wrong, where, what to do."""


@contextmanager
def entry() -> Iterator[None]:
    """Run a program: a `UserError` becomes one line, "error: ...", and exit code 1.

    An operating system's refusal that names a file (a full disk, a missing permission) does too.
    Every other exception is a bug and keeps its traceback. Ctrl-C exits with code 130. Imports
    that take long belong inside, so that Ctrl-C during them is one line as well.
    """
    print_and_forget = sys.unraisablehook

    def unraisable(failure: Any) -> None:
        # Ctrl-C in a destructor cannot stop the program: it comes again when that has ended.
        if failure.exc_type is KeyboardInterrupt:
            threading.Timer(0.1, _thread.interrupt_main).start()
        else:
            print_and_forget(failure)

    sys.unraisablehook = unraisable
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
    finally:
        sys.unraisablehook = print_and_forget
