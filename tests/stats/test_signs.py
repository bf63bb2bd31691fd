"""The statistics of unlike launches, against brute force and against what theory says of them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.signal
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from vggbench.stats import signs

LEVELS = st.lists(st.floats(-2, 2), min_size=3, max_size=12)
FEW_LEVELS = st.lists(st.integers(0, 3).map(float), min_size=3, max_size=12)


@given(LEVELS | FEW_LEVELS)
def test_order_is_the_ratio_of_steps_between_mean_ranks(levels: list[float]) -> None:
    ranks = scipy.stats.rankdata(levels)
    squares = sum((rank - ranks.mean()) ** 2 for rank in ranks)
    steps = sum((after - before) ** 2 for before, after in itertools.pairwise(ranks))
    expected = steps / squares if squares else math.inf
    assert signs.order_ratio(np.array(levels)) == pytest.approx(expected)


@pytest.mark.parametrize("count", [3, 6, 8])
def test_the_null_of_few_is_all_orders(count: int) -> None:
    every = [float(signs.order_ratio(np.array(order))) for order in itertools.permutations(range(count))]
    np.testing.assert_allclose(signs.order_null(count), sorted(every))


def test_the_null_of_many_is_bartels_limit() -> None:
    """For many values the ratio is near normal with mean 2 and variance 4 (n - 2)(5n^2 - 2n - 9) / (5n(n+1)(n-1)^2)."""
    count = 20
    variance = 4 * (count - 2) * (5 * count**2 - 2 * count - 9) / (5 * count * (count + 1) * (count - 1) ** 2)
    null = signs.order_null(count)
    assert null.mean() == pytest.approx(2, abs=0.02)
    assert null.var() == pytest.approx(variance, rel=0.05)


def test_a_drawn_null_joins_the_counted_one() -> None:
    assert np.quantile(signs.order_null(9), 0.025) == pytest.approx(np.quantile(signs.order_null(8), 0.025), abs=0.1)


@given(LEVELS)
def test_groups_are_the_best_of_all_splits(levels: list[float]) -> None:
    ordered = np.sort(levels)
    total = ((ordered - ordered.mean()) ** 2).sum()
    splits = {}
    for lower in range(1, len(levels)):
        parts = ordered[:lower], ordered[lower:]
        within = sum(((part - part.mean()) ** 2).sum() for part in parts)
        splits[lower] = (total - within) / max(within, len(levels) * signs.RESOLUTION**2)
    ratio, lower = signs.group_ratio(np.array(levels))
    assert ratio == pytest.approx(max(splits.values()), rel=1e-6, abs=1e-6)
    assert splits[int(lower)] == pytest.approx(max(splits.values()), rel=1e-6, abs=1e-6)


def test_differences_below_the_resolution_are_no_groups() -> None:
    ratio, _ = signs.group_ratio(np.array([0.0, 0.0, 0.0, 1e-4, 1e-4, 1e-4]))
    assert ratio < 0.01


def brute_inflation(correlation: float, length: int) -> float:
    """Return the ratio of expectations from the whole covariance matrix."""
    count = signs.PIECES * length
    covariances = correlation ** np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    means = np.kron(np.eye(signs.PIECES), np.full(length, 1 / length))
    of_pieces = means @ covariances @ means.T
    of_block = of_pieces.mean()
    within = (np.trace(of_pieces) - signs.PIECES * of_block) / (signs.PIECES - 1)
    return float(of_block / (within / signs.PIECES))


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.9, 0.99])
@pytest.mark.parametrize("length", [1, 2, 5, 40])
def test_the_inflation_is_that_of_the_covariance_matrix(correlation: float, length: int) -> None:
    found = float(signs.correlation_inflation(np.array(correlation), length))
    assert found == pytest.approx(brute_inflation(correlation, length), rel=1e-9)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6, 0.8])
def test_the_correlation_of_neighbours_is_not_biased_by_short_blocks(correlation: float) -> None:
    series = scipy.signal.lfilter([1], [1, -correlation], np.random.default_rng(5).normal(size=(4000, 220)))
    found = np.median(signs.neighbour_correlation(series[:, 200:].reshape(200, 20, 20)))
    assert found == pytest.approx(correlation, abs=0.06)


def test_equal_samples_have_no_correlation() -> None:
    assert signs.neighbour_correlation(np.ones((2, 8))).tolist() == [0, 0]


def test_movement_of_independent_samples_is_fishers_f() -> None:
    samples = np.random.default_rng(6).normal(0, 0.05, (4000, 6, 3, 40))
    pieces = signs.block_pieces(samples)
    moves, spread = signs.movement_freedom(pieces)
    assert (set(moves), set(spread)) == ({12}, {54})
    ratios = signs.movement_ratio(pieces, signs.neighbour_correlation(samples), 40)
    for probability in (0.5, 0.9, 0.975):
        beyond = (ratios > scipy.stats.f.ppf(probability, 12, 54)).mean()
        assert beyond == pytest.approx(1 - probability, abs=0.025)


def test_a_missing_block_counts_for_nothing() -> None:
    samples = np.random.default_rng(7).normal(0, 0.05, (6, 3, 16))
    pieces, correlations = signs.block_pieces(samples), signs.neighbour_correlation(samples)
    wider = np.full((6, 4, signs.PIECES), np.nan)
    wider[:, :3] = pieces
    more = np.full((6, 4), np.nan)
    more[:, :3] = correlations
    assert signs.movement_freedom(wider) == signs.movement_freedom(pieces)
    assert signs.movement_ratio(wider, more, 16) == pytest.approx(signs.movement_ratio(pieces, correlations, 16))


@pytest.mark.parametrize("correlation", [0.3, 0.7])
def test_correlation_within_a_launch_is_no_movement(correlation: float) -> None:
    series = scipy.signal.lfilter([1], [1, -correlation], np.random.default_rng(8).normal(0, 0.02, (1500, 6, 260)))
    samples = series[..., 200:].reshape(1500, 6, 3, 20)
    ratios = signs.movement_ratio(signs.block_pieces(samples), signs.neighbour_correlation(samples), 20)
    assert (ratios > scipy.stats.f.ppf(0.975, 12, 54)).mean() < 0.045
