"""The one clock of a session, and the pause of the garbage collector around timed blocks. Standard library only."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, cast

from vggbench.backends.base import Session

Clock = Callable[[], int]


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
