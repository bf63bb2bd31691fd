"""Room for deep calls. The standard library only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

SLOTS = 70_000  # of 8 bytes, more than half a MiB: CPython reserves a whole one then


def in_one_piece(call: Callable[[], Result]) -> Result:
    """Return what the call returns, with all that it calls on a stack of frames in one piece.

    CPython keeps a thread's frames in chunks of 16 KiB and gives back each one that is left. Calls that go to and fro
    across the end of a chunk map and unmap memory every time, 20,000 times while a network is traced, and whenever
    memory is unmapped the process's other threads are interrupted. Here the caller's own frame is so large that the
    chunk for it has half a MiB over for those that come after.
    """
    return call()


in_one_piece.__code__ = in_one_piece.__code__.replace(co_stacksize=SLOTS)
