"""Throughput windows: every slot kept busy, several by a thread each. The standard library and numpy only.

A window starts when every slot has completed a request and ends when the first slot stops issuing, so all slots are
busy over its whole length, and what they did in it is counted by shares of requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from vggbench.backends.base import Session
from vggbench.measure.clock import clock_of, collector_paused
from vggbench.measure.latency import Block, Ring

_ATTEMPTS = 2  # the second one lasts twice as long as the slowest slot needed
_LEAST_REQUESTS = 3  # a slot: one before the window, two inside it


def throughput_block(session: Session, ring: Ring, *, seconds: float) -> Block:
    """Return one window of about `seconds` as a block of one sample.

    It takes longer where one slot was so much slower that it had hardly begun when another had done its part.
    """
    for _ in range(_ATTEMPTS):
        completions, took = _serve_all(session, ring, seconds)
        window = _full_window(completions)
        if window is not None:
            window_ns, requests = window
            last = tuple(_batch_of(slot, len(ends) - 1, ring) for slot, ends in enumerate(completions))
            images = requests * len(ring[0])
            return Block(
                kind="throughput", samples_ns=(window_ns,), images=images, stop_reason="time", last_batches=last
            )
        seconds = 2 * took / 1e9
    raise RuntimeError("no request was completed while all slots were busy: the slots were not served in parallel")


def _serve_all(session: Session, ring: Ring, seconds: float) -> tuple[list[list[int]], int]:
    """Return when each slot's requests were completed (ns), and how long the slowest slot took (ns)."""
    serve = _slot_loop(session, ring, seconds, threading.Barrier(session.slots))
    if session.slots == 1:  # in the thread that has verified: libraries keep thread pools and graphs per calling thread
        with collector_paused():
            served = [serve(0)]
    else:
        with collector_paused(), ThreadPoolExecutor(session.slots) as pool:
            served = list(pool.map(serve, range(session.slots)))
    return [ends for _, ends in served], max(ends[-1] - start for start, ends in served)


def _slot_loop(
    session: Session, ring: Ring, seconds: float, start_together: threading.Barrier
) -> Callable[[int], tuple[int, list[int]]]:
    clock = clock_of(session)

    def serve(slot: int) -> tuple[int, list[int]]:
        ends: list[int] = []
        start_together.wait()
        start = clock()
        deadline = start + round(seconds * 1e9)
        while len(ends) < _LEAST_REQUESTS or ends[-1] < deadline:
            session.stage(slot, ring[_batch_of(slot, len(ends), ring)])
            session.enqueue(slot)
            session.wait(slot)
            ends.append(clock())
        return start, ends

    return serve


def _batch_of(slot: int, request: int, ring: Ring) -> int:
    """Return which batch of the ring a slot's request is on: slots start at different ones."""
    return (slot + request) % len(ring)


def _full_window(completions: list[list[int]]) -> tuple[int, float] | None:
    """Return the length (ns) of the window in which all slots were busy, and the requests served in it, if any.

    The window runs from the last slot's first completion to the first slot's last one. A slot's requests follow each
    other without a gap, so one that an edge cuts counts by the share of it that lies inside: counting whole requests
    only would lose up to one a slot, and most where requests are long.
    """
    start = max(ends[0] for ends in completions)
    end = min(ends[-1] for ends in completions)
    if end <= start:
        return None
    return end - start, sum(_served_between(start, end, ends) for ends in completions)


def _served_between(start: int, end: int, ends: list[int]) -> float:
    """Return how many of a slot's requests, each from one completion to the next, fall between two moments."""
    return sum(
        max(0, min(finish, end) - max(begin, start)) / (finish - begin)
        for begin, finish in pairwise(ends)
        if finish > begin
    )
