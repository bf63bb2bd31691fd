from __future__ import annotations

import math
import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.measure.replay import recorded_rounds
from vggbench.measure.stopping import Enough, Steady, StoppingRule

SAMPLES = st.lists(st.integers(1, 10**9), min_size=1, max_size=60)


def looks(count: int) -> list[int]:
    """Return after how many samples a warm-up of that many has been looked at."""
    found = [8]
    while (following := math.ceil(1.25 * found[-1])) <= count:
        found.append(following)
    return found


def looks_steady(samples: list[int]) -> bool:
    half = max(4, len(samples) // 4)
    tolerance = max(0.02 * math.sqrt(4 / half), 0.005)
    return median(samples[-half:]) >= (1 - tolerance) * median(samples[-2 * half : -half])


def feed(rule: StoppingRule, samples: list[int]) -> int:
    """Return after how many samples the rule was done; more than there are if it never was."""
    for count, sample in enumerate(samples):
        if rule.done:
            return count
        rule.add(sample)
    return len(samples) if rule.done else len(samples) + 1


def test_enough_wants_both_time_and_samples():
    assert feed(Enough(least_s=10e-9, least_samples=2), [5] * 9) == 2
    assert feed(Enough(least_s=11e-9, least_samples=2), [5] * 9) == 3
    assert feed(Enough(least_s=1e-9, least_samples=7), [5] * 9) == 7


def test_enough_is_not_done_before_it_has_seen_a_sample():
    rule = Enough(least_s=0.0, least_samples=1)
    assert (rule.done, rule.why) == (False, "")
    rule.add(1)
    assert (rule.done, rule.why) == (True, "time")


@pytest.mark.parametrize(
    ("sample_ns", "stopped", "why"),
    [
        (10, 10, "time"),  # there are as many as wanted when the time is over
        (13, 8, "time"),
        (15, 8, "samples"),
        (25, 8, "samples"),  # eight take just twice the time
        (26, 4, "time"),
        (50, 3, "time"),
        (200, 3, "time"),
    ],
)
def test_enough_goes_on_for_wanted_samples_that_do_not_take_long(sample_ns: int, stopped: int, why: str):
    rule = Enough(least_s=100e-9, least_samples=3, wanted_samples=8)
    assert feed(rule, [sample_ns] * 20) == stopped
    assert rule.why == why


def test_enough_gives_up_going_on_when_requests_get_slower():
    assert feed(Enough(least_s=100e-9, least_samples=3, wanted_samples=8), [20] * 5 + [200] * 5) == 6


@pytest.mark.parametrize("count", [0, -1])
def test_a_series_without_samples_is_refused(count: int):
    with pytest.raises(ValueError, match="at least one sample"):
        Enough(least_s=1.0, least_samples=count)


@given(SAMPLES, st.integers(0, 10**9), st.integers(1, 20))
def test_enough_stops_at_the_first_sample_that_makes_it_enough(samples: list[int], least_ns: int, count: int):
    stopped = feed(Enough(least_s=least_ns / 1e9, least_samples=count), samples)
    needed = next(
        (
            number
            for number in range(1, len(samples) + 1)
            if number >= count and sum(samples[:number]) >= least_ns / 1e9 * 1e9
        ),
        len(samples) + 1,
    )
    assert stopped == needed


def test_a_warm_up_that_gets_faster_goes_on():
    rule = Steady(least_s=0.0, most_s=1.0)
    assert feed(rule, [round(1000 * 0.9**number) for number in range(30)]) > 30
    assert rule.why == ""


def test_a_warm_up_is_steady_once_the_newer_half_is_no_faster_twice():
    falling = [900, 800, 700, 600, 500]
    rule = Steady(least_s=0.0, most_s=1.0)
    # Looked at after 8, 10, 13, 17 samples; at 13 and 17 the newest eight are all alike.
    assert feed(rule, [*falling, *[400] * 20]) == 17
    assert rule.why == "steady"


def test_getting_slower_is_no_reason_to_go_on():
    rule = Steady(least_s=0.0, most_s=1.0)
    assert feed(rule, list(range(100, 300, 10))) == 10
    assert rule.why == "steady"


def test_one_outlier_on_either_side_does_not_count():
    rule = Steady(least_s=0.0, most_s=1.0)
    assert feed(rule, [9000, 100, 100, 100, 1, 100, 100, 100, 100, 100]) == 10
    assert rule.why == "steady"


def test_looking_steady_once_is_not_enough():
    rule = Steady(least_s=0.0, most_s=1.0)
    assert feed(rule, [100] * 8 + [80] * 4 + [60] * 5) == 18
    assert rule.why == ""


@pytest.mark.parametrize("scale", [5, 30, 100, 1000])
def test_a_slow_warm_up_is_seen_at_its_own_scale(scale: int):
    """Half of the excess is gone after 0.7 of the scale; a window of eight samples would never see the last ones."""
    rule = Steady(least_s=scale * 1e-3, most_s=1e3)
    samples = [round(1e6 * (1 + 0.5 * math.exp(-number / scale))) for number in range(20 * scale)]
    stopped = feed(rule, samples)
    assert rule.why == "steady"
    assert 0.5 * math.exp(-stopped / scale) < 0.01


def test_a_slow_warm_up_is_seen_through_noise():
    rule = Steady(least_s=0.1, most_s=1e3)
    noise = random.Random(1)
    samples = [round(1e6 * (1 + 0.5 * math.exp(-number / 50)) * noise.gauss(1, 0.02)) for number in range(2000)]
    stopped = feed(rule, samples)
    assert rule.why == "steady"
    assert 0.5 * math.exp(-stopped / 50) < 0.01


def test_a_warm_up_lasts_its_least_time():
    rule = Steady(least_s=2e-6, most_s=1.0)
    assert feed(rule, [100] * 50) == 20
    assert rule.why == "steady"


def test_a_warm_up_that_never_settles_ends_at_the_limit():
    rule = Steady(least_s=0.0, most_s=6e-6)
    assert feed(rule, [round(1000 * 0.9**number) for number in range(50)]) < 50
    assert rule.why == "limit"


def test_a_warm_up_without_time_for_a_window_says_so():
    rule = Steady(least_s=0.0, most_s=250e-9)
    assert feed(rule, [100] * 9) == 3
    assert rule.why == "short"


@given(SAMPLES, st.floats(0, 1), st.floats(0, 1))
def test_steady_always_ends_and_says_why(samples: list[int], least_s: float, most_s: float):
    rule = Steady(least_s=least_s, most_s=most_s)
    taken: list[int] = []
    for sample in samples * 40:
        if rule.done:
            break
        rule.add(sample)
        taken.append(sample)
    assert rule.done == (rule.why != "")
    assert rule.done or sum(taken) < most_s * 1e9
    if rule.why == "steady":
        assert sum(taken) >= least_s * 1e9
        assert all(looks_steady(taken[:count]) for count in looks(len(taken))[-2:])
    if rule.why == "short":
        assert len(taken) < 8


def test_recorded_warm_ups_get_steady():
    ends = []
    for blocks in recorded_rounds():
        rule = Steady(least_s=0.02, most_s=0.2)
        feed(rule, [sample for block in blocks for sample in block])
        ends.append(rule.why)
    assert ends == ["steady"] * len(ends)
