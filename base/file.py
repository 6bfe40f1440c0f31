"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from base.error import UserError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name in the folder of `path`, which is renamed to `path` at the end.

    After an error the temporary file is removed and `path` is unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` at the end; after an error nothing is left.

    Raises: UserError where `path` exists and is not an empty folder.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path} exists already: give the name of a new folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield part
        part.chmod(0o755)  # mkdtemp makes folders that only their owner may read
        os.replace(part, path)
    except UserError as error:
        raise UserError(str(error).replace(str(part), str(path))) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
