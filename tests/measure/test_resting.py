from __future__ import annotations

import pytest

from vggbench.measure.resting import rest


class Process:
    """A process that spins for so many seconds of a clock of its own."""

    def __init__(self, spins_s: float) -> None:
        self.time_s, self._spins_s = 0.0, spins_s

    def now(self) -> float:
        return self.time_s

    def cpu_time(self) -> float:
        return min(self.time_s, self._spins_s)

    def sleep(self, seconds: float) -> None:
        self.time_s += seconds


@pytest.mark.parametrize(("spins_s", "over_s"), [(0.0, 0.002), (0.022, 0.024), (0.05, 0.052)])
def test_it_waits_as_long_as_threads_spin_and_no_longer(spins_s: float, over_s: float):
    process = Process(spins_s)
    assert rest(0.2, cpu_time=process.cpu_time, now=process.now, sleep=process.sleep)
    assert process.time_s == pytest.approx(over_s)


def test_one_that_never_sleeps_is_not_waited_for_for_ever():
    process = Process(1e9)
    assert not rest(0.2, cpu_time=process.cpu_time, now=process.now, sleep=process.sleep)
    assert process.time_s == pytest.approx(0.2, abs=0.003)


def test_this_process_rests():
    assert rest(10.0)
