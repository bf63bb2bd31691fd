"""Latency blocks: one request at a time, every sample kept. The standard library and numpy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vggbench.backends.base import Session
from vggbench.measure.clock import Clock, clock_of, collector_paused, settle_of
from vggbench.measure.conditions import Conditions
from vggbench.measure.stopping import StoppingRule

BlockKind = Literal["warmup", "compute", "end_to_end", "throughput", "host", "copy_in", "copy_out"]
Ring = Sequence[NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A series of samples taken without a pause.

    Attributes:
        kind: what a sample spans: `compute` and `warmup` from staged input to logits on the device, `end_to_end` from
            host array to host array, `throughput` a window with all slots busy. Of a device that works through
            queues also `host`, what `compute` does by the host's clock, and `copy_in` and `copy_out`, the ways there
            and back.
        samples_ns: times in ns, in order.
        images: images completed in one sample; in a window of throughput, shares of requests at its edges included.
        stop_reason: what ended the block.
        last_batches: for each slot, which batch of the ring its last request was on.
        wrong: what was wrong with the outputs of these last requests; empty where they are right.
        conditions: what else went on meanwhile; None where the clock is a script's.
        enqueue_ns: of a block timed by events, the time in which the host enqueued each request.
        exposed: of such a block, requests for which the device could not be held back until they were enqueued: their
            times hold some of the host's.
    """

    kind: BlockKind
    samples_ns: tuple[int, ...]
    images: float
    stop_reason: str
    last_batches: tuple[int, ...] = ()
    wrong: str = ""
    conditions: Conditions | None = None
    enqueue_ns: tuple[int, ...] = ()
    exposed: int = 0


def compute_block(session: Session, ring: Ring, rule: StoppingRule, *, kind: BlockKind = "compute") -> Block:
    """Time `enqueue; wait` on inputs staged beforehand, rotating through the ring, until the rule is done.

    By the session's clock: where that is a device's timeline, `measure.device_latency` times it instead.
    """
    clock, settle, enqueue, wait = clock_of(session), settle_of(session), session.enqueue, session.wait

    def one(batch: NDArray[np.float32]) -> int:
        session.stage(0, batch)
        settle(0)
        start = clock()
        enqueue(0)
        wait(0)
        return clock() - start

    return _block(one, ring, rule, kind)


def end_to_end_block(session: Session, ring: Ring, rule: StoppingRule) -> Block:
    """Time `stage; enqueue; wait; fetch`: what a caller with arrays on the host waits for."""
    clock: Clock = clock_of(session)

    def one(batch: NDArray[np.float32]) -> int:
        start = clock()
        session.stage(0, batch)
        session.enqueue(0)
        session.wait(0)
        session.fetch(0)
        return clock() - start

    return _block(one, ring, rule, "end_to_end")


def _block(one: Callable[[NDArray[np.float32]], int], ring: Ring, rule: StoppingRule, kind: BlockKind) -> Block:
    samples: list[int] = []
    with collector_paused():
        while not rule.done:
            sample = one(ring[len(samples) % len(ring)])
            samples.append(sample)
            rule.add(sample)
    last = (len(samples) - 1) % len(ring)
    return Block(kind=kind, samples_ns=tuple(samples), images=len(ring[0]), stop_reason=rule.why, last_batches=(last,))
