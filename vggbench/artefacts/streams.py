"""Large files from front to back, past the page cache: written and hashed in one pass, or read block by block.

Half a gigabyte through the page cache costs a core a second, for memory that nobody reads soon. Past it, the disk
takes the bytes while the caller makes the next ones. Where that cannot be had (another system, a file system in memory,
an odd block size) a file goes the usual way. Imports numpy alone.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from vggbench.errors import ArtefactError

BLOCK_BYTES = 8 << 20  # handed to the disk at a time: larger blocks are not faster
DIRECT = getattr(os, "O_DIRECT", 0)  # Linux has it


class HashedFile:
    """A new file that is written once, from front to back; a context manager that leaves it whole on the disk.

    Two blocks take turns: one is filled and handed to a thread, which writes it while the other one is filled.
    Raises `OSError` where the disk is full or fails, at the latest on leaving.
    """

    def __init__(self, path: Path) -> None:
        self._file = FileIO(path, "x", opener=_past_cache)
        self._digest = hashlib.sha256()
        self._block, self._other = _page_aligned(), _page_aligned()
        self._filled = 0
        self._handed_over = 0
        self._disk = ThreadPoolExecutor(max_workers=1)
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._file, self._disk:
            if error is None:
                self._finish()

    @property
    def offset(self) -> int:
        """Bytes written so far."""
        return self._handed_over + self._filled

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the whole file; to be asked for after it was left."""
        return self._digest.hexdigest()

    def write(self, content: bytes | memoryview) -> None:
        """Append bytes."""
        left = memoryview(content)
        while left:
            count = min(len(left), BLOCK_BYTES - self._filled)
            _copy(left[:count], self._block[self._filled : self._filled + count])
            self._filled += count
            left = left[count:]
            if self._filled == BLOCK_BYTES:
                self._hand_over()

    def _hand_over(self) -> None:
        self._settle()
        self._writing = self._disk.submit(_write, self._file, self._block)
        self._digest.update(self._block)  # while it is written: both only read it
        self._block, self._other = self._other, self._block
        self._handed_over += BLOCK_BYTES
        self._filled = 0

    def _settle(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def _finish(self) -> None:
        self._settle()
        rest = self._block[: self._filled]
        self._digest.update(rest)
        _through_cache(self._file)  # past it, only whole pages can be written
        _write(self._file, rest)
        os.fsync(self._file.fileno())


def read_blocks(path: Path) -> Iterator[memoryview]:
    """Yield a file's content block by block, the next one being read meanwhile; a block is valid until the next."""
    with FileIO(path, "r", opener=_past_cache) as file, ThreadPoolExecutor(max_workers=1) as disk:
        left = os.fstat(file.fileno()).st_size
        block, other = _page_aligned(), _page_aligned()
        coming = disk.submit(_read, file, block, left)
        while count := coming.result():
            left -= count
            coming = disk.submit(_read, file, other, left)
            yield block[:count]
            block, other = other, block


def read_parts(
    path: Path, places: Mapping[str, tuple[int, int]], digest: hashlib._Hash
) -> Iterator[tuple[str, memoryview]]:
    """Yield (name, bytes) of a file's parts from its front to its back, and hash all of it.

    `places` are the first byte of each and the one behind the last. A large part comes in several pieces, each valid
    until the next. Raises `ArtefactError` where the file ends inside a part.
    """
    end, ordered = 0, sorted(places.items(), key=lambda item: item[1])
    for block in read_blocks(path):
        digest.update(block)
        start, end = end, end + len(block)
        for name, (first, last) in ordered:
            if first < end and last > start:
                yield name, block[max(first - start, 0) : last - start]
    for name, (_first, last) in ordered:
        if last > end:
            raise ArtefactError(f"{path}: the file ends inside {name}; remove its folder and export again")


def stream_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file that nobody opens right afterwards: it is not left in the page cache."""
    digest = hashlib.sha256()
    for block in read_blocks(path):
        digest.update(block)
    return digest.hexdigest()


def _page_aligned() -> memoryview:
    """Return a block of memory that starts on a page, as the disk wants it."""
    return memoryview(mmap.mmap(-1, BLOCK_BYTES))


def _past_cache(path: str, flags: int) -> int:
    if not DIRECT:
        return os.open(path, flags, 0o666)
    try:
        return os.open(path, flags | DIRECT, 0o666)
    except OSError as error:
        if error.errno != errno.EINVAL:  # what a file system without it answers, having made the file or not
            raise
        return os.open(path, flags & ~os.O_EXCL, 0o666)


def _copy(source: memoryview, target: memoryview) -> None:
    """Copy bytes as numpy does it, which lets other threads run meanwhile; Python's own assignment does not."""
    np.copyto(np.frombuffer(target, np.uint8), np.frombuffer(source, np.uint8))


def _through_cache(file: FileIO) -> bool:
    """Let a file go through the page cache from here on; say whether it did not before."""
    if not DIRECT:
        return False
    import fcntl

    flags = fcntl.fcntl(file, fcntl.F_GETFL)
    fcntl.fcntl(file, fcntl.F_SETFL, flags & ~DIRECT)
    return bool(flags & DIRECT)


def _write(file: FileIO, content: memoryview) -> None:
    while content:
        content = content[_transfer(file, file.write, content) :]


def _read(file: FileIO, block: memoryview, left: int) -> int:
    """Fill the block with as much of what is left of the file as it holds; return how much that was."""
    filled = 0
    while filled < min(len(block), left):
        count = _transfer(file, file.readinto, block[filled:])
        if not count:  # somebody cuts it short
            break
        filled += count
    return filled


def _transfer(file: FileIO, call: Callable[[memoryview], int | None], content: memoryview) -> int:
    try:
        return call(content) or 0
    except OSError as error:
        if error.errno != errno.EINVAL or not _through_cache(file):  # blocks larger than a page, say
            raise
        return call(content) or 0
