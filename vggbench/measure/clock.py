"""The one clock of a session, what a timeline of a device does, and the pause of the garbage collector around blocks.

The standard library and numpy only.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from vggbench.backends.base import Session

Clock = Callable[[], int]


class DeviceTimeline(Protocol):
    """The slots of a session on a device that works through queues; `backends.cuda_slots.CudaSlots` is one."""

    def pin(self, batches: Iterable[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Return copies of batches in memory that the device copies from by itself."""
        ...

    def wait(self, slot: int) -> None:
        """Block until all that was enqueued for a slot is over."""
        ...

    def hold_back(self, slot: int, nanoseconds: int) -> None:
        """Keep the slot's queue busy for about so long."""
        ...

    def record(self, slot: int, mark: int) -> None:
        """Note, in the queue, when it comes to `START` or `END` (of `cuda_slots`)."""
        ...

    def has_begun(self, slot: int) -> bool:
        """Say whether the queue has come to `START`."""
        ...

    def elapsed_ns(self, slot: int) -> int:
        """Return the device's time from `START` to `END`, after `wait`."""
        ...

    def copy_out(self, slot: int) -> None:
        """Start copying the slot's output to the host."""
        ...

    def peak_allocated_bytes(self) -> int:
        """Return the most memory that the library of the slots had taken since they were made."""
        ...


class ScriptedSession(Protocol):
    """A session whose time is its script's."""

    def now_ns(self) -> int:
        """Return the script's time."""
        ...


def clock_of(session: Session) -> Clock:
    """Return the clock, in ns, that the session's timeline names: the host's, or the script's own."""
    if session.timeline == "scripted":
        return cast("ScriptedSession", session).now_ns
    return time.perf_counter_ns


def device_of(session: Session) -> DeviceTimeline | None:
    """Return the slots of a session on a device that works through queues; None on the host."""
    return cast("DeviceTimeline | None", getattr(session, "device_slots", None))


def settle_of(session: Session) -> Callable[[int], None]:
    """Return what blocks until a slot's staged input is there, which on the host it is when `stage` returns."""
    device = device_of(session)
    return device.wait if device else lambda _slot: None


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep Python's cyclic garbage collector out of what runs inside."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
