"""Spread against scipy, effective sample size against processes whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from vggbench.stats import effective_sample_size, relative_spread, spread

DURATIONS = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=40)


@given(DURATIONS)
def test_the_spread_is_scipys_deviation_over_the_median(values: list[float]) -> None:
    expected = scipy.stats.median_abs_deviation(values, scale="normal") / np.median(values)
    assert relative_spread(values) == pytest.approx(float(expected), rel=1e-4, abs=1e-12)


@given(DURATIONS, st.integers(-10, 10))
def test_the_spread_has_no_unit(values: list[float], exponent: int) -> None:
    assert relative_spread([value * 2.0**exponent for value in values]) == relative_spread(values)


def test_within_and_between_are_told_apart() -> None:
    random = np.random.default_rng(1)
    levels = 10 * np.exp(random.normal(0, 0.05, (400, 1)))
    found = spread(list(levels * np.exp(random.normal(0, 0.01, (400, 200)))))
    assert found.within == pytest.approx(0.01, rel=0.05)
    assert found.between == pytest.approx(0.05, rel=0.15)


def test_one_launch_has_no_spread_between_launches() -> None:
    assert spread([[1.0, 2.0, 3.0]]).between is None


def test_one_disturbed_sample_changes_little() -> None:
    quiet = np.random.default_rng(2).normal(10, 0.1, 101)
    assert relative_spread([*quiet[1:], 1000.0]) == pytest.approx(relative_spread(quiet), rel=0.1)


@pytest.mark.parametrize("bad", [[], [[]], [[1.0], [math.nan]], [[0.0, 0.0]], [[-1.0]]])
def test_there_is_no_spread_of_nothing(bad: list[list[float]]) -> None:
    with pytest.raises(ValueError, match=r"value|launches|not defined"):
        spread(bad)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_a_first_order_process_counts_as_its_theory_says(correlation: float) -> None:
    """Of such a process (1 - phi) / (1 + phi) of the samples count."""
    steps = np.random.default_rng(3).normal(size=100_000)
    series = scipy.signal.lfilter([1], [1, -correlation], steps)
    expected = series.size * (1 - correlation) / (1 + correlation)
    assert effective_sample_size(series) == pytest.approx(expected, rel=0.06)


def test_the_sum_ends_before_the_first_pair_that_is_not_positive() -> None:
    """The same by the definition, without a transform."""
    series = scipy.signal.lfilter([1], [1, -0.8], np.random.default_rng(4).normal(size=301))
    deviations = series - series.mean()
    count = series.size
    rho = [float(deviations[: count - k] @ deviations[k:] / (deviations @ deviations)) for k in range(count)]
    total = -1.0
    for first in range(0, count - 1, 2):
        pair = rho[first] + rho[first + 1]
        if pair <= 0:
            break
        total += 2 * pair
    assert effective_sample_size(series) == pytest.approx(count / total, rel=1e-9)


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=60))
def test_a_series_counts_for_one_to_all_of_its_samples(values: list[float]) -> None:
    assert 1 <= effective_sample_size(values) <= len(values)


@pytest.mark.parametrize("values", [[5.0], [0.1] * 7, [1.0, 2.0] * 20])
def test_nothing_counts_more_than_it_is(values: list[float]) -> None:
    assert effective_sample_size(values) == len(values)


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf]])
def test_no_size_comes_from_nothing(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="value"):
        effective_sample_size(bad)
