"""The label-swap test against scipy, against counting by hand, and as properties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vggbench.stats import label_swap
from vggbench.stats.label_swap import DRAWS, scores, swap_p_values, swaps

TIGHT = 1e-12
# Thousandths: sums of them tie, as a test by counting must survive.
EFFECTS = st.integers(-60, 60).map(lambda number: number / 1000)


def tables(cells: int = 4, rounds: int = 6) -> st.SearchStrategy[np.ndarray]:
    shapes = st.tuples(st.integers(1, cells), st.integers(1, rounds))
    return shapes.flatmap(lambda shape: arrays(float, shape, elements=EFFECTS))


def brute_statistic(effects: list[float]) -> float:
    """Return the statistic as its docstring says, with the standard library alone."""
    sizes = sorted(abs(effect) for effect in effects)
    size = (sizes[(len(sizes) - 1) // 2] + sizes[len(sizes) // 2]) / 2
    bounded = [effect / math.hypot(effect, size) if effect else 0.0 for effect in effects]
    norm = math.sqrt(sum(value**2 for value in bounded))
    weight = math.sqrt(size / (size + 0.01))
    return weight * sum(bounded) / norm if norm else 0.0


def brute_p_values(table: np.ndarray) -> list[float]:
    """Swap every choice of rounds of the effects themselves and count; Westfall and Young's step-down."""
    seen = [brute_statistic(row) for row in table.tolist()]
    order = sorted(range(len(seen)), key=lambda cell: -seen[cell])
    choices = list(itertools.product((1, -1), repeat=table.shape[1]))
    counts = [0] * len(order)
    for choice in choices:
        swapped = [brute_statistic(row) for row in (table * choice).tolist()]
        for place, cell in enumerate(order):
            largest = max(swapped[other] for other in order[place:])
            counts[place] += largest >= seen[cell] - label_swap.ROUNDING
    p_values = list(itertools.accumulate((count / len(choices) for count in counts), max))
    return [p_values[order.index(cell)] for cell in range(len(order))]


@settings(max_examples=60, deadline=None)
@given(tables())
def test_p_values_are_counted_by_hand(table: np.ndarray) -> None:
    np.testing.assert_allclose(swap_p_values(table), brute_p_values(table), rtol=0, atol=TIGHT)


@settings(max_examples=25, deadline=None)
@given(arrays(float, st.integers(2, 8), elements=st.floats(-0.1, 0.1).map(lambda x: round(x, 6))))
def test_one_cell_is_scipys_permutation_test(effects: np.ndarray) -> None:
    def statistic(sample: np.ndarray) -> float:
        return brute_statistic(sample.tolist())

    expected = scipy.stats.permutation_test(
        (effects,), statistic, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert swap_p_values(effects[np.newaxis])[0] == pytest.approx(expected.pvalue, abs=TIGHT)


@given(tables(rounds=8))
def test_a_swap_changes_signs_and_nothing_else(table: np.ndarray) -> None:
    choice = np.where(np.arange(table.shape[1]) % 2, -1.0, 1.0)
    np.testing.assert_allclose(scores(table * choice), scores(table) * choice, rtol=TIGHT, atol=0)


@given(tables(cells=5))
def test_p_values_are_fractions_of_all_swaps(table: np.ndarray) -> None:
    counts = swap_p_values(table) * 2 ** table.shape[1]
    assert counts == pytest.approx(np.round(counts))
    assert (counts >= 1).all()
    assert (counts <= 2 ** table.shape[1]).all()


@given(tables(cells=5))
def test_the_order_of_cells_and_of_rounds_does_not_matter(table: np.ndarray) -> None:
    np.testing.assert_allclose(swap_p_values(table[::-1, ::-1])[::-1], swap_p_values(table), rtol=0, atol=TIGHT)


@given(tables(cells=5))
def test_every_table_of_a_stack_is_judged_alone(table: np.ndarray) -> None:
    stacked = swap_p_values(np.stack([table, -table]))
    np.testing.assert_array_equal(stacked, np.stack([swap_p_values(table), swap_p_values(-table)]))


def test_the_level_holds_exactly_over_all_swaps() -> None:
    """Every swap of a table is as likely as it: the false alarms of a level are counted, nothing is drawn."""
    table = np.random.default_rng(2).standard_t(3, (3, 7)) / 100
    found = swap_p_values(table * swaps(7).T[:, np.newaxis, :])
    for level in (0.01, 0.05, 0.10, 0.25):
        assert (found.min(axis=-1) <= level).mean() <= level
    assert (found.min(axis=-1) <= 0.10).mean() >= 0.08  # and it is not empty: 12 of 128 are allowed


def test_the_level_holds_among_cells_that_are_slower() -> None:
    """Strong control: what is slower is found, and takes none along that is not, though they share their noise."""
    random = np.random.default_rng(3)
    noise = random.normal(0, 0.01, (4000, 1, 8)) + random.normal(0, 0.01, (4000, 4, 8))
    found = swap_p_values(noise + np.array([0.2, 0.05, 0, 0])[:, np.newaxis]) <= 0.10
    assert found[:, 0].mean() > 0.99
    assert found[:, 2:].any(axis=-1).mean() <= 0.10 + 3 * math.sqrt(0.1 * 0.9 / 4000)


def test_one_disturbed_round_neither_makes_nor_hides_a_slowdown() -> None:
    quiet = np.array([0.004, -0.003, 0.002, -0.004, 0.001, -0.002, 0.003])
    slower = quiet + 0.04
    disturbed = np.array([0, 0, 0, 9.0, 0, 0, 0])
    p_values = [swap_p_values(row[np.newaxis])[0] for row in (quiet + disturbed, slower + disturbed)]
    assert p_values[0] > 0.10
    assert p_values[1] == 1 / 128


def test_a_cell_that_is_ten_times_slower_hides_no_other() -> None:
    quiet = np.array([0.004, -0.003, 0.002, -0.004, 0.001, -0.002, 0.003])
    table = np.stack([np.full(7, math.log(10)), quiet + 0.05, quiet])
    assert (swap_p_values(table)[:2] <= 2 / 128).all()
    assert swap_p_values(table)[2] > 0.10


def test_nothing_moved_is_nothing_found() -> None:
    np.testing.assert_array_equal(swap_p_values(np.zeros((3, 7))), 1.0)


def test_many_rounds_are_drawn_by_seed_and_hold_what_was_seen() -> None:
    rounds = label_swap.LARGEST_EXACT_ROUNDS + 3
    drawn = swaps(rounds, 1)
    assert drawn.shape == (rounds, DRAWS)
    assert (drawn[:, 0] == 1).all()
    assert (drawn == swaps(rounds, 1)).all()
    assert not (drawn == swaps(rounds, 2)).all()
    table = np.random.default_rng(6).normal(0.004, 0.01, (2, rounds))
    few, many = swap_p_values(table, seed=1), _all_swaps(table)
    np.testing.assert_allclose(few, many, atol=4 * math.sqrt(0.25 / DRAWS))
    np.testing.assert_array_equal(swap_p_values(np.full((1, rounds), 0.5)), 1 / DRAWS)


def _all_swaps(table: np.ndarray) -> np.ndarray:
    """Count all 2^rounds swaps of two cells."""
    rounds = table.shape[1]
    signs = 1.0 - 2.0 * ((np.arange(2**rounds) >> np.arange(rounds)[:, np.newaxis]) & 1)
    scored = scores(table)
    first, second = (0, 1) if scored[0].sum() >= scored[1].sum() else (1, 0)
    both = (scored @ signs).max(axis=0) >= scored[first].sum() - label_swap.ROUNDING
    one = scored[second] @ signs >= scored[second].sum() - label_swap.ROUNDING
    found = np.empty(2)
    found[first] = both.mean()
    found[second] = max(both.mean(), one.mean())
    return found


def test_a_large_table_is_judged_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.random.default_rng(7).normal(0.005, 0.01, (6, 9))
    whole = swap_p_values(table)
    monkeypatch.setattr(label_swap, "_LARGEST_PART", 50)
    np.testing.assert_array_equal(swap_p_values(table), whole)


@pytest.mark.parametrize("bad", [np.zeros((0, 7)), np.zeros((2, 0)), np.zeros(7)])
def test_no_table_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no table"):
        swap_p_values(bad)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        swap_p_values(np.array([[0.0, bad]]))
