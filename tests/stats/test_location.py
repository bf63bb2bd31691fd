"""Quantiles and the signed-rank interval against scipy, against counting by hand, and as properties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from vggbench.stats import location as stats

TIGHT = 1e-12
# Nothing near the smallest floats: halving one of those is inexact, and no clock counts in them.
VALUES = st.floats(-1e9, 1e9).map(lambda value: value if abs(value) > 1e-100 else 0.0)
SAMPLES = st.lists(VALUES, min_size=1, max_size=25)
LONG_SAMPLES = st.lists(VALUES, min_size=6, max_size=25)


def brute_walsh(values: list[float]) -> list[float]:
    return sorted((a + b) / 2 for i, a in enumerate(values) for b in values[i:])


def brute_rank_sums(count: int) -> list[int]:
    """Return how many of the 2^n choices of signs give each positive rank sum."""
    found = [0] * (count * (count + 1) // 2 + 1)
    for signs in itertools.product((0, 1), repeat=count):
        found[sum(rank for rank, sign in enumerate(signs, start=1) if sign)] += 1
    return found


def scipy_p_value(values: np.ndarray, centre: float) -> float:
    return float(scipy.stats.wilcoxon(values - centre, method="exact").pvalue)


@pytest.mark.parametrize("count", range(1, 13))
def test_null_distribution_is_the_count_of_all_signs(count: int) -> None:
    expected = np.array(brute_rank_sums(count)) / 2.0**count
    np.testing.assert_allclose(stats._rank_sum_probabilities(count), expected, rtol=TIGHT, atol=0)


@pytest.mark.parametrize("count", [60, stats.LARGEST_EXACT_COUNT])
def test_null_distribution_of_large_counts_agrees_with_whole_number_arithmetic(count: int) -> None:
    counts = [1]
    for rank in range(1, count + 1):
        shifted = [0] * rank + counts
        counts = [a + b for a, b in itertools.zip_longest(counts, shifted, fillvalue=0)]
    expected = [number / 2**count for number in counts]
    np.testing.assert_allclose(stats._rank_sum_probabilities(count), expected, rtol=TIGHT, atol=0)


# Two-sided 5 % critical values, as printed in any table of the test (Wilcoxon 1945; Hollander and Wolfe, table A.4).
CRITICAL = {6: 0, 7: 2, 8: 3, 9: 5, 10: 8, 11: 10, 12: 13, 15: 25, 20: 52, 25: 89, 30: 137, 50: 434}


@pytest.mark.parametrize(("count", "critical"), CRITICAL.items())
def test_critical_values_are_the_published_ones(count: int, critical: int) -> None:
    assert stats.largest_rejected_rank_sum(count, 0.95) == critical


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95, 0.99])
def test_normal_limit_takes_over_without_a_step(confidence: float) -> None:
    count = stats.LARGEST_EXACT_COUNT
    exact = stats.largest_rejected_rank_sum(count, confidence)
    limit = stats._normal_rank_sum(count, (1 - confidence) / 2)
    deviation = math.sqrt(count * (count + 1) * (2 * count + 1) / 24)
    assert abs(exact - limit) < 0.01 * deviation
    assert stats.largest_rejected_rank_sum(count + 1, confidence) > exact


def test_confidence_that_is_exactly_reached_counts_as_reached() -> None:
    exact = float(stats._rank_sum_probabilities(6)[0])
    assert stats.largest_rejected_rank_sum(6, 1 - 2 * exact) == 0
    assert stats.largest_rejected_rank_sum(6, 1 - 2 * exact + 1e-6) == -1


@pytest.mark.parametrize(("confidence", "fewest"), [(0.5, 2), (0.9, 5), (0.95, 6), (0.99, 8), (0.999, 11)])
def test_too_few_values_have_no_interval(confidence: float, fewest: int) -> None:
    values = np.arange(fewest, dtype=float)
    assert stats.signed_rank_interval(values[1:], confidence) is None
    assert stats.signed_rank_interval(values, confidence) is not None


def test_six_values_span_the_whole_sample() -> None:
    assert stats.signed_rank_interval([3.0, 1.0, 4.0, 1.5, 9.0, 2.6]) == (1.0, 9.0)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("count", [8, 12, 23])
def test_interval_holds_just_the_centres_that_scipy_does_not_reject(count: int, confidence: float) -> None:
    values = np.random.default_rng(count).normal(3, 2, count)
    interval = stats.signed_rank_interval(values, confidence)
    assert interval is not None
    low, high = interval
    step = 1e-9  # far below the distance of two Walsh averages of this sample
    assert scipy_p_value(values, low + step) > 1 - confidence >= scipy_p_value(values, low - step)
    assert scipy_p_value(values, high - step) > 1 - confidence >= scipy_p_value(values, high + step)


@pytest.mark.parametrize("count", [6, 7, 10])
def test_coverage_is_what_the_null_distribution_says(count: int) -> None:
    """Every choice of signs is equally likely under the null hypothesis: the coverage is counted, nothing is drawn."""
    magnitudes = np.sqrt(np.arange(1, count + 1) * 7.0)
    signs = np.array(list(itertools.product((-1, 1), repeat=count)))
    intervals = [stats.signed_rank_interval(row) for row in signs * magnitudes]
    covered = sum(found is not None and found[0] < 0 < found[1] for found in intervals) / len(signs)
    rejected = stats.largest_rejected_rank_sum(count, 0.95)
    assert covered == pytest.approx(1 - 2 * stats._rank_sum_probabilities(count)[: rejected + 1].sum(), abs=TIGHT)
    assert covered >= 0.95


@given(SAMPLES)
def test_hodges_lehmann_is_the_median_of_walsh_averages(values: list[float]) -> None:
    expected = float(np.median(brute_walsh(values)))
    assert stats.hodges_lehmann(values) == pytest.approx(expected, rel=TIGHT, abs=1e-300)


@given(LONG_SAMPLES, st.sampled_from([0.8, 0.9, 0.95]))
def test_interval_ends_are_walsh_averages_counted_from_both_ends(values: list[float], confidence: float) -> None:
    averages = brute_walsh(values)
    found = stats.signed_rank_interval(values, confidence)
    tail = (1 - confidence) / 2
    sums = np.cumsum(stats._rank_sum_probabilities(len(values)))
    rejected = max((k for k, p in enumerate(sums) if p <= tail * (1 + TIGHT)), default=-1)
    assert found == pytest.approx((averages[rejected], averages[-1 - rejected]), rel=TIGHT, abs=1e-300)


@given(LONG_SAMPLES)
def test_estimate_lies_in_the_interval_and_the_interval_in_the_sample(values: list[float]) -> None:
    interval = stats.signed_rank_interval(values)
    assert interval is not None
    assert min(values) <= interval[0] <= stats.hodges_lehmann(values) <= interval[1] <= max(values)


@given(LONG_SAMPLES)
def test_more_confidence_is_never_a_narrower_interval(values: list[float]) -> None:
    narrow, wide = stats.signed_rank_interval(values, 0.8), stats.signed_rank_interval(values, 0.95)
    assert narrow is not None
    assert wide is not None
    assert wide[0] <= narrow[0] <= narrow[1] <= wide[1]


@given(LONG_SAMPLES, st.integers(-3, 3))
def test_shift_scale_and_order_carry_over(values: list[float], exponent: int) -> None:
    """A power of two scales exactly, so nothing hides behind a tolerance."""
    scale = 2.0**exponent
    moved = [-scale * value for value in reversed(values)]
    assert stats.hodges_lehmann(moved) == -scale * stats.hodges_lehmann(values)
    low, high = stats.signed_rank_interval(values) or (math.nan, math.nan)
    assert stats.signed_rank_interval(moved) == (-scale * high, -scale * low)


def test_largest_floats_do_not_overflow() -> None:
    assert stats.hodges_lehmann([1.7e308] * 6) == 1.7e308
    assert stats.signed_rank_interval([1.7e308] * 6) == (1.7e308, 1.7e308)


@given(SAMPLES, st.floats(0, 1))
def test_quantile_interpolates_between_order_statistics(values: list[float], probability: float) -> None:
    ordered = sorted(values)
    position = probability * (len(ordered) - 1)
    below = ordered[math.floor(position)]
    above = ordered[math.ceil(position)]
    expected = below + (above - below) * (position - math.floor(position))
    assert stats.quantile(values, probability) == pytest.approx(expected, rel=TIGHT, abs=1e-6)


@given(SAMPLES)
def test_median_is_scipys(values: list[float]) -> None:
    expected = float(scipy.stats.mstats.mquantiles(values, 0.5, alphap=1, betap=1)[0])
    assert stats.median(values) == pytest.approx(expected, rel=TIGHT, abs=1e-300)


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf, 1.0]])
def test_no_number_comes_from_nothing(bad: list[float]) -> None:
    for function in (stats.median, stats.hodges_lehmann, stats.signed_rank_interval):
        with pytest.raises(ValueError, match="value"):
            function(bad)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, math.nan])
def test_a_confidence_in_percent_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence is between 0 and 1"):
        stats.signed_rank_interval(np.arange(9.0), confidence)


@pytest.mark.parametrize("probability", [-0.1, 90.0, math.nan])
def test_a_quantile_in_percent_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="probability is between 0 and 1"):
        stats.quantile([1.0], probability)
