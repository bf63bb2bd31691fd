from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.measure.replay import RING, ReplaySession
from vggbench.measure.throughput import _LEAST_REQUESTS as LEAST
from vggbench.measure.throughput import _full_window, throughput_block


def ends_of(period: int, count: int, first: int | None = None) -> list[int]:
    """Return when a slot's requests end that starts at 0 and takes `period` each."""
    start = period if first is None else first
    return [start + period * number for number in range(count)]


def test_one_slot_is_measured_between_its_first_and_last_completion():
    assert _full_window([[10, 30, 50, 90]]) == (80, 3)


def test_equal_slots_give_their_rate_exactly():
    assert _full_window([ends_of(10, 6), ends_of(10, 6)]) == (50, 10)


def test_only_time_in_which_all_slots_were_busy_counts():
    early, late = ends_of(10, 20), ends_of(10, 20, first=55)
    window, requests = _full_window([early, late])
    assert window == 200 - 55
    assert requests == pytest.approx(2 * (200 - 55) / 10)


def test_a_fast_slot_beside_a_slow_one():
    window, requests = _full_window([ends_of(10, 40), ends_of(100, 4)])
    assert (window, requests) == (300, 30 + 3)


def test_slots_that_were_never_busy_together_have_no_window():
    assert _full_window([[1, 2, 3, 4], [100, 101, 102, 103]]) is None


PERIODS = st.lists(st.integers(1, 1000), min_size=1, max_size=6)


@given(PERIODS, st.integers(4000, 20_000))
def test_the_rate_is_the_sum_of_the_slots_rates(periods: list[int], seconds: int):
    completions = [ends_of(period, max(LEAST, -(-seconds // period))) for period in periods]
    found = _full_window(completions)
    assert found is not None
    window, requests = found
    expected = sum(window / period for period in periods)
    assert requests == pytest.approx(expected)


def test_slots_in_lockstep_lose_nothing_at_the_edges():
    """Whole requests alone would count 3 here, where 4 periods of work were done."""
    window, requests = _full_window([[100, 200, 300], [101, 201, 301]]) or (0, 0)
    assert requests / window == pytest.approx(2 / 100)


COMPLETIONS = st.lists(
    st.lists(st.integers(1, 10**6), min_size=LEAST, max_size=30, unique=True).map(sorted), min_size=1, max_size=5
)


@given(COMPLETIONS, st.integers(0, 10**9), st.randoms())
def test_neither_the_clocks_zero_nor_the_slots_order_matters(completions, shift, random):
    shuffled = random.sample(completions, len(completions))
    moved = [[end + shift for end in ends] for ends in shuffled]
    found, expected = _full_window(moved), _full_window(completions)
    assert found == (expected and pytest.approx(expected, rel=1e-9))


@given(COMPLETIONS)
def test_a_window_is_positive_and_holds_no_more_than_was_completed(completions):
    found = _full_window(completions)
    if found is None:
        assert max(ends[0] for ends in completions) >= min(ends[-1] for ends in completions)
    else:
        window, requests = found
        assert window > 0
        assert 0 < requests <= sum(len(ends) - 1 for ends in completions)


def test_a_block_counts_images_over_one_window():
    block = throughput_block(ReplaySession([10], [10]), RING, seconds=100e-9)
    assert (block.kind, block.samples_ns, block.images, block.stop_reason) == ("throughput", (90,), 18 * 2, "time")


def test_every_slot_completes_a_few_requests_however_short_the_time():
    session = ReplaySession([10], [25])
    block = throughput_block(session, RING, seconds=0.0)
    assert [len(staged) for staged in session.staged] == [LEAST, LEAST]
    window = ends_of(10, LEAST)[-1] - 25
    assert block.samples_ns == (window,)
    assert block.images == pytest.approx(2 * window * (1 / 10 + 1 / 25))


@pytest.mark.parametrize("slow", [10 * LEAST, 1000])
def test_a_slot_however_slow_has_its_share_in_a_window(slow: int):
    block = throughput_block(ReplaySession([10], [slow]), RING, seconds=0.0)
    rate = block.images / 2 / block.samples_ns[0]
    assert rate == pytest.approx(1 / 10 + 1 / slow, rel=1e-9)


def test_slots_that_take_turns_instead_of_running_together_are_an_error():
    class Serial(ReplaySession):
        """The second slot begins long after the first one's end."""

        def now_ns(self) -> int:
            return super().now_ns() or (10_000 if threading.current_thread().name.endswith("_1") else 0)

    with pytest.raises(RuntimeError, match="not served in parallel"):
        throughput_block(Serial([10], [10]), RING, seconds=100e-9)


def test_slots_stage_every_request_and_start_at_different_batches():
    session = ReplaySession([10], [10])
    throughput_block(session, RING, seconds=60e-9)
    assert session.staged == [[0, 1, 2, 0, 1, 2], [1, 2, 0, 1, 2, 0]]


def test_staging_is_part_of_the_time():
    block = throughput_block(ReplaySession([10], stage_ns=5), RING, seconds=150e-9)
    assert block.images * 1e9 / block.samples_ns[0] == pytest.approx(2e9 / 15)


def test_an_error_in_one_slot_ends_the_block():
    class Failing(ReplaySession):
        def wait(self, slot):
            if slot == 1:
                raise RuntimeError("slot 1 failed")
            super().wait(slot)

    with pytest.raises(RuntimeError, match="slot 1 failed"):
        throughput_block(Failing([10], [10]), RING, seconds=50e-9)
