"""The folder of a run: made, held by one process at a time, and rid of what a killed one left. No torch, no pandas."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from vggbench.artefacts.store import flush
from vggbench.errors import RunFolderError

LOCK_NAME = ".lock"
_UNFINISHED = ".unfinished-"


def make_folder(folder: Path) -> bool:
    """Make the folder and those above it; return whether it was not there before."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except OSError as error:
        if isinstance(error, FileExistsError) and folder.is_dir():
            return False
        raise RunFolderError(f"{folder} cannot be made: {error.strerror}; name another with --output") from None
    return True


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep everybody else out of the folder, and remove the half-written files of one that was killed in it."""
    lock = FileLock(folder / LOCK_NAME, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RunFolderError(f"{folder} is in use by another vggbench; wait for it or name another folder") from None
    except OSError as error:
        raise RunFolderError(f"{folder} cannot be written: {error.strerror}; name another with --output") from None
    try:
        _sweep(folder)
        yield
    finally:
        lock.release()


def _sweep(folder: Path) -> None:
    try:
        for left in folder.glob(f"{_UNFINISHED}*"):
            left.unlink()
    except OSError as error:
        raise RunFolderError(f"{error.filename} cannot be removed: {error.strerror}; remove it") from None


def discard(folder: Path, *names: str, made: bool) -> None:
    """Remove files of a run that came to nothing, and the folder if it was `made` for it and holds nothing else."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
    if made:
        (folder / LOCK_NAME).unlink(missing_ok=True)
        with suppress(OSError):  # somebody has put something else there
            folder.rmdir()


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under a temporary name, flush it to disk and rename it: never half a file under its name.

    Raises `RunFolderError` where that cannot be done; what was there before stays.
    """
    try:
        _write_whole(path, write)
    except OSError as error:
        reason = error.strerror or error
        raise RunFolderError(f"{path} cannot be written: {reason}; make room or name another folder") from None


def _write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{_UNFINISHED}{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # noqa: PTH101 - a report is for others to read; mkstemp makes it private
        os.replace(temporary, path)  # noqa: PTH105 - the temporary name is a string
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    flush(path.parent)
