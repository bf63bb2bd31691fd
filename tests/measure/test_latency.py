from __future__ import annotations

import gc
import time

import numpy as np
import pytest

from tests.measure.replay import RING, ReplaySession, recorded_rounds
from vggbench.backends.null import NullSession
from vggbench.measure.clock import clock_of, collector_paused
from vggbench.measure.latency import compute_block, end_to_end_block
from vggbench.measure.stopping import Enough, Steady


def test_a_compute_block_spans_enqueue_and_wait_alone():
    session = ReplaySession([70], stage_ns=1000, fetch_ns=500)
    block = compute_block(session, RING, Enough(least_s=0, least_samples=3))
    assert (block.kind, block.samples_ns, block.images, block.stop_reason) == ("compute", (70, 70, 70), 2, "time")
    assert session.calls == [("stage", 0), ("enqueue", 0), ("wait", 0)] * 3


def test_an_end_to_end_block_spans_from_host_to_host():
    session = ReplaySession([70], stage_ns=1000, fetch_ns=500)
    block = end_to_end_block(session, RING, Enough(least_s=0, least_samples=2))
    assert (block.kind, block.samples_ns) == ("end_to_end", (1570, 1570))
    assert session.calls == [("stage", 0), ("enqueue", 0), ("wait", 0), ("fetch", 0)] * 2


@pytest.mark.parametrize("measure", [compute_block, end_to_end_block])
def test_inputs_rotate_over_the_whole_ring(measure):
    session = ReplaySession([5])
    measure(session, RING, Enough(least_s=0, least_samples=7))
    assert session.staged[0] == [0, 1, 2, 0, 1, 2, 0]


def test_recorded_samples_come_back_as_they_were():
    for blocks in recorded_rounds():
        samples = [sample for block in blocks for sample in block]
        rule = Enough(least_s=(sum(samples[:50]) - 1) / 1e9, least_samples=3)
        block = compute_block(ReplaySession(samples), RING, rule)
        assert list(block.samples_ns) == samples[:50]


def test_a_warm_up_keeps_its_samples_and_says_what_it_is():
    samples = [900, 800, 700, 600, *[500] * 20]
    block = compute_block(ReplaySession(samples), RING, Steady(least_s=0, most_s=1), kind="warmup")
    assert (block.kind, block.stop_reason) == ("warmup", "steady")
    assert list(block.samples_ns) == samples[: len(block.samples_ns)]


def test_the_collector_is_off_while_requests_are_timed_and_on_again_afterwards():
    class Watched(ReplaySession):
        def enqueue(self, slot):
            assert not gc.isenabled()

    assert gc.isenabled()
    compute_block(Watched([5]), RING, Enough(least_s=0, least_samples=2))
    assert gc.isenabled()


def test_garbage_is_collected_before_not_while(monkeypatch: pytest.MonkeyPatch):
    events = []
    monkeypatch.setattr(gc, "collect", lambda: events.append("collected"))
    session = ReplaySession([5])
    session.calls = events
    compute_block(session, RING, Enough(least_s=0, least_samples=1))
    assert events == ["collected", ("stage", 0), ("enqueue", 0), ("wait", 0)]


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_an_error_inside_switches_the_collector_on_again():
    with pytest.raises(RuntimeError, match="no"), collector_paused():
        raise RuntimeError("no")
    assert gc.isenabled()


def test_the_clock_is_the_sessions_own_or_the_hosts():
    session = ReplaySession([7])
    session.wait(0)
    assert clock_of(session)() == 7
    assert clock_of(NullSession((1, 3, 4, 4), 5, 1)) is time.perf_counter_ns


def test_a_session_that_does_nothing_takes_next_to_nothing():
    ring = [np.zeros((1, 3, 4, 4), dtype=np.float32)]
    block = compute_block(NullSession((1, 3, 4, 4), 5, 1), ring, Enough(least_s=0, least_samples=50))
    assert 0 <= min(block.samples_ns) < 1_000_000
