"""Timing by events, on the stand-in of torch's CUDA calls with a scripted clock of the host."""

from __future__ import annotations

import gc
from itertools import cycle

import numpy as np
import pytest

from tests import cuda_stand_in
from tests.cuda_stand_in import CudaStandIn
from tests.measure.replay import RING, ReplaySession
from vggbench.backends.base import SessionContext, TensorSpec
from vggbench.backends.cuda_slots import CudaSlots
from vggbench.measure import clock
from vggbench.measure.device_latency import Backlog, copy_in_block, copy_out_block, event_block
from vggbench.measure.latency import compute_block, end_to_end_block
from vggbench.measure.stopping import Enough
from vggbench.measure.throughput import throughput_block

OUTPUT = (2, 5)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> CudaStandIn:
    machine = cuda_stand_in.install(monkeypatch, scripted=True)
    monkeypatch.setattr(clock.time, "perf_counter_ns", machine.host.now_ns)
    return machine


class Session(SessionContext):
    """Requests that the host enqueues for `host_ns` and that the device works on for `works_ns` in turn."""

    timeline = "cuda"

    def __init__(self, machine: CudaStandIn, host_ns: int, *works_ns: int, slots: int = 1, waits: bool = False) -> None:
        self.slots = slots
        self.input_spec = TensorSpec("input", "float32", RING[0].shape)
        self.output_spec = TensorSpec("logits", "float32", OUTPUT)
        self.device_slots = CudaSlots("cuda", slots, RING[0].shape, OUTPUT)
        self.seen: list[float] = []
        self._machine, self._host_ns, self._works, self._waits = machine, host_ns, cycle(works_ns), waits

    def stage(self, slot: int, batch: np.ndarray) -> None:
        self.device_slots.stage(slot, batch)
        self._machine.streams[slot].work(COPY_NS)

    def enqueue(self, slot: int) -> None:
        self.seen.append(float(self.device_slots.input(slot)[0, 0, 0, 0]))
        self._machine.host.pass_ns(self._host_ns)
        self._machine.streams[slot].work(next(self._works))
        if self._waits:
            self.wait(slot)

    def wait(self, slot: int) -> None:
        self.device_slots.wait(slot)

    def fetch(self, slot: int) -> np.ndarray:
        self._machine.streams[slot].work(COPY_NS)
        return self.device_slots.fetch(slot)


COPY_NS = 7_000


def enough(samples: int) -> Enough:
    return Enough(least_s=0, least_samples=samples)


def test_a_sample_is_the_devices_time_alone(machine: CudaStandIn):
    session = Session(machine, 20_000, 300, 500)
    block = event_block(session, RING, enough(4))
    assert (block.kind, block.samples_ns, block.exposed) == ("compute", (300, 500, 300, 500), 0)
    assert block.enqueue_ns == (20_000,) * 4
    assert (block.images, block.last_batches) == (2, (0,))
    assert session.seen == [0, 1, 2, 0]


def test_the_hosts_time_of_the_same_requests_is_longer(machine: CudaStandIn):
    session = Session(machine, 20_000, 300)
    block = compute_block(session, RING, enough(3), kind="host")
    assert (block.kind, block.samples_ns) == ("host", (20_300,) * 3)  # without the copy: it was waited for before
    end = end_to_end_block(session, RING, enough(2))
    assert end.samples_ns == (20_300 + COPY_NS,) * 2  # the copy there hides behind enqueueing


def test_the_device_is_held_back_for_longer_where_the_host_is_slow(machine: CudaStandIn):
    block = event_block(Session(machine, 300_000, 1000), RING, enough(3))
    assert block.samples_ns == (1000,) * 3  # those that had begun too early were made again
    assert block.exposed == 0
    assert machine.backlogs_ns == [50_000, 100_000, 200_000, 400_000, 600_000, 600_000]


def test_what_waits_for_the_device_by_itself_is_exposed(machine: CudaStandIn):
    block = event_block(Session(machine, 10_000, 1000, waits=True), RING, enough(2))
    assert block.exposed == 2
    assert max(machine.backlogs_ns) == Backlog.MOST_NS


def test_a_block_is_no_longer_than_its_time_whatever_comes_on_top(machine: CudaStandIn):
    start = machine.host.now_ns()
    block = event_block(Session(machine, 1000, 500), RING, Enough(least_s=1e-3, least_samples=1))
    assert block.stop_reason == "time"
    assert machine.host.now_ns() - start < 1.2e6


def test_copies_are_timed_there_and_back(machine: CudaStandIn):
    session = Session(machine, 1000, 500)
    there = copy_in_block(session, RING, enough(4))
    assert (there.kind, there.samples_ns, there.last_batches) == ("copy_in", (COPY_NS,) * 4, ())
    session.device_slots.copy_out = lambda slot: machine.streams[slot].work(40)
    back = copy_out_block(session, RING, enough(2))
    assert (back.kind, back.samples_ns, back.last_batches) == ("copy_out", (40, 40), ())


def test_a_session_without_slots_on_a_device_has_no_events():
    with pytest.raises(RuntimeError, match="no slots on a device"):
        copy_in_block(ReplaySession([5]), RING, enough(1))


def test_no_garbage_is_collected_in_a_block(machine: CudaStandIn, monkeypatch: pytest.MonkeyPatch):
    session = Session(machine, 1000, 500)
    enqueue = session.enqueue

    def watched(slot: int) -> None:
        assert not gc.isenabled()
        enqueue(slot)

    monkeypatch.setattr(session, "enqueue", watched)
    event_block(session, RING, enough(2))
    assert gc.isenabled()


def test_backlogs_follow_what_enqueueing_takes_and_forget_outliers():
    backlog = Backlog()
    for taken in (100_000, 100_000, 9_000_000, 100_000, 100_000):
        backlog.fits(taken)
    assert backlog.nanoseconds == 200_000
    for _ in range(20):
        backlog.grow()
    assert backlog.is_longest
    backlog.fits(10)
    assert backlog.nanoseconds == Backlog.MOST_NS  # it was needed once


def test_streams_are_served_side_by_side(monkeypatch: pytest.MonkeyPatch):
    machine = cuda_stand_in.install(monkeypatch)
    block = throughput_block(Session(machine, 0, 200_000, slots=2), RING, seconds=0.02)
    assert block.kind == "throughput"
    assert block.images >= 4
