"""Student's t and the prediction interval against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from vggbench.stats.prediction import prediction_interval, prediction_scale, t_at_least, t_quantile

TIGHT = 1e-12


@given(st.floats(-60, 60), st.integers(1, 200))
def test_tail_is_scipys(t: float, freedom: int) -> None:
    expected = float(scipy.stats.t.sf(t, freedom))
    assert t_at_least(t, freedom) == pytest.approx(expected, rel=1e-10, abs=1e-14)


@given(st.floats(1e-6, 0.5), st.integers(1, 60))
def test_quantile_is_reached_with_its_tail(tail: float, freedom: int) -> None:
    assert t_at_least(t_quantile(tail, freedom), freedom) == pytest.approx(tail, rel=1e-9)


@pytest.mark.parametrize("freedom", [1, 4, 9, 30])
@pytest.mark.parametrize("tail", [1e-5, 0.001, 0.025, 0.2])
def test_quantile_is_scipys(tail: float, freedom: int) -> None:
    assert t_quantile(tail, freedom) == pytest.approx(float(scipy.stats.t.isf(tail, freedom)), rel=TIGHT)


@pytest.mark.parametrize("count", [2, 5, 12])
def test_interval_is_the_textbooks(count: int) -> None:
    values = np.random.default_rng(count).normal(3, 0.1, count)
    half = scipy.stats.t.isf(0.025, count - 1) * values.std(ddof=1) * math.sqrt(1 + 1 / count)
    expected = (values.mean() - half, values.mean() + half)
    assert prediction_interval(values.tolist()) == pytest.approx(expected, rel=TIGHT)


def test_a_further_value_is_inside_as_often_as_said() -> None:
    draws = np.random.default_rng(5).normal(size=(2000, 6))
    inside = 0
    for *earlier, later in draws.tolist():
        low, high = prediction_interval(earlier, 0.9)
        inside += low <= later <= high
    assert abs(inside / 2000 - 0.9) < 4 * math.sqrt(0.9 * 0.1 / 2000)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_too_few_values_have_no_scatter(values: list[float]) -> None:
    with pytest.raises(ValueError, match="no scatter"):
        prediction_scale(values)


@pytest.mark.parametrize("tail", [0.0, 0.6, math.nan])
def test_a_tail_is_checked(tail: float) -> None:
    with pytest.raises(ValueError, match="a tail is above 0"):
        t_quantile(tail, 3)


def test_freedom_and_confidence_are_checked() -> None:
    with pytest.raises(ValueError, match="0 degrees"):
        t_at_least(1.0, 0)
    with pytest.raises(ValueError, match="confidence is between"):
        prediction_interval([1.0, 2.0], 95)
