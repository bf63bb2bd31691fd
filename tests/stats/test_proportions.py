from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggbench.stats import PairedChange, wilson_interval


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [
        # Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998),
        # table I.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_the_published_one(hits: int, trials: int, low: float, high: float):
    found = wilson_interval(hits, trials)
    assert [round(value, 4) for value in found] == [low, high]


def test_all_and_none_end_at_the_ends():
    assert wilson_interval(0, 7)[0] == 0
    assert wilson_interval(7, 7)[1] == 1
    assert wilson_interval(7, 7)[0] == pytest.approx(7 / (7 + 1.959963984540054**2))


@given(st.integers(1, 10_000).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
def test_its_ends_are_where_the_normal_test_just_does_not_reject(counts: tuple[int, int]):
    hits, trials = counts
    low, high = wilson_interval(hits, trials)
    assert 0 <= low <= hits / trials <= high <= 1
    for end in {low, high} - {0.0, 1.0}:
        distance = abs(hits / trials - end) / math.sqrt(end * (1 - end) / trials)
        assert distance == pytest.approx(1.959963984540054, rel=1e-6)


@pytest.mark.parametrize(("hits", "trials"), [(1, 0), (0, 0), (3, 2), (-1, 2)])
def test_impossible_counts_are_refused(hits: int, trials: int):
    with pytest.raises(ValueError, match="hits in"):
        wilson_interval(hits, trials)


@pytest.mark.parametrize(
    ("lost", "won", "p_value"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 5, 1.0),
        (6, 0, 2 / 64),
        (1, 9, 2 * (1 + 10) / 1024),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
        (3, 12, 2 * (1 + 15 + 105 + 455) / 2**15),
    ],
)
def test_mcnemars_p_is_a_sum_of_binomial_coefficients(lost: int, won: int, p_value: float):
    assert PairedChange(lost=lost, won=won, images=1000).p_value == pytest.approx(p_value, rel=1e-12)


def test_many_changes_are_no_trouble():
    few = sum(math.comb(1000, count) for count in range(471)) / 2**999
    assert PairedChange(lost=530, won=470, images=10_000).p_value == pytest.approx(few, rel=1e-9)


def test_points_are_of_all_images():
    assert PairedChange(lost=40, won=10, images=10_000).points == pytest.approx(-0.3)
