"""Waits until this process's threads have fallen asleep. The standard library only.

A pool that has computed looks for more work for a while before it sleeps: on two threads ONNX Runtime for about 20 ms
of CPU time after a request, OpenMP for 2 to 5 ms, oneTBB hardly at all (benchmarks/README.md). Meanwhile it takes CPU
time from whoever is measured next.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_LOOK_S = 0.002  # long against what a look costs, short against a block
_ASLEEP = 0.1  # of one CPU: a thread that spins takes all of it, one that is woken now and then far less


def rest(
    most_s: float,
    *,
    cpu_time: Callable[[], float] = time.process_time,
    now: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until the process has hardly taken CPU time for a moment; False if it still does after `most_s`."""
    start = now()
    while now() - start < most_s:
        cpu_before, before = cpu_time(), now()
        sleep(_LOOK_S)
        if cpu_time() - cpu_before < _ASLEEP * (now() - before):
            return True
    return False
