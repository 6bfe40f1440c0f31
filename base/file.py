"""Files and folders that appear whole or not at all."""

import hashlib
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
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


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` at the end; after an error nothing is left.

    Raises:
        UserError: `path` exists and is not an empty folder.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path} exists already: give the name of a new folder")
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


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for the block: no other process may write there at the same time.

    The system lets go of it when the process ends, however it ends. Systems without such locks
    (Windows, some network disks) are not held.

    Raises:
        UserError: another process holds the folder.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    while True:
        file = open(path, "a+")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another"
            file.close()
            raise UserError(
                f"process {holder} is at work in {folder}: wait for it, or give another --out"
            ) from None
        except OSError:
            break
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            break
        file.close()  # its holder has removed it since: once more
    os.register_at_fork(after_in_child=file.close)  # loader processes outlive a killed run
    try:
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()
        if created and not any(folder.iterdir()):
            folder.rmdir()


def file_checksum(path: Path) -> int:
    """CRC-32 of a file's content."""
    checksum = 0
    with open(path, "rb") as file:
        while part := file.read(1 << 22):
            checksum = zlib.crc32(part, checksum)
    return checksum


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Digest of a file, which shows damage, in hexadecimal; "" where there is none."""
    if not path.is_file():
        return ""
    hasher = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while part := file.read(1 << 22):
            hasher.update(part)
    return hasher.hexdigest()


def set_aside(out: Path, patterns: Iterable[str]) -> Path | None:
    """Move files and folders of a run to OUT/old-N, which comes back; None: nothing to move."""
    paths = sorted({path for pattern in patterns for path in out.glob(pattern)})
    if not paths:
        return None
    old = numbered_folder(out, "old")
    for path in paths:
        os.replace(path, old / path.name)
    return old


def numbered_folder(parent: Path, name: str) -> Path:
    """Make the first of the folders NAME-1, NAME-2, ... in `parent` that is not there yet."""
    paths = (parent / f"{name}-{number}" for number in count(1))
    folder = next(path for path in paths if not path.exists())
    folder.mkdir()
    return folder
