"""Keeps a worker's threads on cores of its own. The standard library only.

A new thread inherits the mask of the thread that starts it. So the whole process is kept to as many CPUs as it has
threads, before a library is imported, and every pool made afterwards stays there; single threads are left to the
library, because a caller's thread that is tied to one CPU would tie the pools that it starts to the same one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from vggbench.environment.cpu import choose_cpus


def can_pin() -> bool:
    """Say whether this system knows masks of CPUs."""
    return hasattr(os, "sched_setaffinity")


def pin_process(allowed: frozenset[int], threads: int, root: Path = Path("/")) -> tuple[int, ...] | None:
    """Keep every thread of this process to `threads` of the allowed CPUs; return them, None if that cannot be done."""
    if not can_pin():
        return None
    cpus = choose_cpus(allowed, threads, root)
    try:
        os.sched_setaffinity(0, cpus)
    except OSError:  # a container may forbid it, or have taken the CPUs away meanwhile
        return None
    for task in (root / "proc/self/task").glob("[0-9]*"):  # numpy has started threads of its own by now
        with suppress(OSError):  # ended meanwhile
            os.sched_setaffinity(int(task.name), cpus)
    return cpus
