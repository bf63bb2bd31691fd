"""Latency blocks of a device that works through queues, timed by events in the queue. Standard library and numpy only.

A request is enqueued while the device is held back, so that it then runs without waiting for the host; the time between
the events before and after it is the device's own. How long the device has to be held back is found out on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from vggbench.backends.base import Session
from vggbench.backends.cuda_slots import END, START
from vggbench.measure.clock import DeviceTimeline, clock_of, collector_paused, device_of
from vggbench.measure.latency import Block, BlockKind, Ring
from vggbench.measure.stopping import StoppingRule


class Backlog:
    """How long the device is held back before a request: twice what enqueueing took lately, and more if that fails."""

    LEAST_NS = 50_000  # a kernel that does nothing takes 5 us to begin
    MOST_NS = 50_000_000  # launching a thousand kernels takes a tenth of it
    _LATELY = 5  # requests: the median of so many ignores two that were disturbed

    def __init__(self) -> None:
        self.nanoseconds = self.LEAST_NS
        self._least = self.LEAST_NS
        self._seen: list[int] = []

    @property
    def is_longest(self) -> bool:
        """Say whether it cannot grow any more."""
        return self.nanoseconds >= self.MOST_NS

    def fits(self, enqueue_ns: int) -> None:
        """Note what enqueueing took behind it."""
        self._seen = [*self._seen[1 - self._LATELY :], enqueue_ns]
        self.nanoseconds = min(max(self._least, round(2 * median(self._seen))), self.MOST_NS)

    def grow(self) -> None:
        """Hold the device back for longer, from now on."""
        self._least = self.nanoseconds = min(2 * self.nanoseconds, self.MOST_NS)


def event_block(session: Session, ring: Ring, rule: StoppingRule) -> Block:
    """Time requests on inputs staged beforehand, rotating through the ring, until the rule is done.

    The rule is told what a sample took of the host's time, staging and holding back included, so that a block is no
    longer than it was given. A request that began before it was enqueued is made again behind a longer backlog.
    """
    device, clock, backlog = _device(session), clock_of(session), Backlog()
    samples: list[int] = []
    enqueued: list[int] = []
    exposed = 0
    with collector_paused():
        while not rule.done:
            begin = clock()
            session.stage(0, ring[len(samples) % len(ring)])
            device.wait(0)
            enqueue_ns, in_time = _behind(session, device, backlog.nanoseconds)
            session.wait(0)
            if not in_time and not backlog.is_longest:
                backlog.grow()
                continue
            backlog.fits(enqueue_ns)
            samples.append(device.elapsed_ns(0))
            enqueued.append(enqueue_ns)
            exposed += not in_time
            rule.add(clock() - begin)
    return Block(
        kind="compute",
        samples_ns=tuple(samples),
        images=len(ring[0]),
        stop_reason=rule.why,
        last_batches=((len(samples) - 1) % len(ring),),
        enqueue_ns=tuple(enqueued),
        exposed=exposed,
    )


def _behind(session: Session, device: DeviceTimeline, backlog_ns: int) -> tuple[int, bool]:
    """Enqueue a request between the events; return what that took, and whether the device had not begun by then."""
    clock = clock_of(session)
    device.hold_back(0, backlog_ns)
    device.record(0, START)
    begin = clock()
    session.enqueue(0)
    taken = clock() - begin
    device.record(0, END)
    return taken, not device.has_begun(0)


def copy_in_block(session: Session, ring: Ring, rule: StoppingRule) -> Block:
    """Time the way of a batch from pinned memory to the device."""
    return _copies(session, ring, rule, "copy_in", lambda batch: session.stage(0, ring[batch]))


def copy_out_block(session: Session, ring: Ring, rule: StoppingRule) -> Block:
    """Time the way of the logits from the device to pinned memory."""
    device = _device(session)
    return _copies(session, ring, rule, "copy_out", lambda _batch: device.copy_out(0))


def _copies(session: Session, ring: Ring, rule: StoppingRule, kind: BlockKind, copy: Callable[[int], None]) -> Block:
    device, clock = _device(session), clock_of(session)
    samples: list[int] = []
    with collector_paused():
        while not rule.done:
            begin = clock()
            device.hold_back(0, Backlog.LEAST_NS)
            device.record(0, START)
            copy(len(samples) % len(ring))
            device.record(0, END)
            device.wait(0)
            samples.append(device.elapsed_ns(0))
            rule.add(clock() - begin)
    return Block(kind=kind, samples_ns=tuple(samples), images=len(ring[0]), stop_reason=rule.why)


def _device(session: Session) -> DeviceTimeline:
    device = device_of(session)
    if device is None:
        raise RuntimeError("the session has no slots on a device: nothing of it can be timed by events")
    return device
