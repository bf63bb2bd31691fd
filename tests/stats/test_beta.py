"""Tails against scipy, and the identities they satisfy."""

from __future__ import annotations

import math

import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from vggbench.stats.beta import binomial_at_most, f_at_least, regularized_beta

PARAMETERS = st.floats(0.5, 5000)
# Logarithms of gamma of 10,000 have 10 digits left after they cancel.
CLOSE = 1e-9


@given(st.floats(0, 1), PARAMETERS, PARAMETERS)
def test_the_beta_function_is_scipys(x: float, a: float, b: float) -> None:
    expected = float(scipy.special.betainc(a, b, x))
    assert regularized_beta(x, a, b) == pytest.approx(expected, rel=CLOSE, abs=1e-12)


@given(st.floats(0, 1), PARAMETERS, PARAMETERS)
def test_the_two_tails_are_everything(x: float, a: float, b: float) -> None:
    assert regularized_beta(x, a, b) + regularized_beta(1 - x, b, a) == pytest.approx(1, abs=CLOSE)


@pytest.mark.parametrize(("x", "a", "b"), [(-0.1, 1, 1), (1.1, 1, 1), (0.5, 0, 1), (0.5, 1, -1), (math.nan, 1, 1)])
def test_outside_the_domain_there_is_no_value(x: float, a: float, b: float) -> None:
    with pytest.raises(ValueError, match="outside the domain"):
        regularized_beta(x, a, b)


@given(st.integers(0, 40), st.integers(1, 40), st.floats(0.01, 0.99))
def test_the_binomial_tail_is_the_sum_of_its_terms(count: int, trials: int, probability: float) -> None:
    terms = (
        math.comb(trials, k) * probability**k * (1 - probability) ** (trials - k) for k in range(min(count, trials) + 1)
    )
    assert binomial_at_most(count, trials, probability) == pytest.approx(math.fsum(terms), rel=CLOSE)


@given(st.floats(0, 50), st.integers(1, 200), st.integers(1, 200))
def test_the_tail_of_f_is_scipys(ratio: float, numerator: int, denominator: int) -> None:
    expected = float(scipy.stats.f.sf(ratio, numerator, denominator))
    assert f_at_least(ratio, numerator, denominator) == pytest.approx(expected, rel=1e-7, abs=1e-12)
