"""A round's effect, from its blocks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.gate.made import effects
from vggbench.gate.effects import block_effects, is_measured, round_effects


def test_an_effect_is_the_log_ratio_of_the_later_iterations_medians() -> None:
    base = [[900, 10, 11, 12], [900, 20, 20, 20]]
    head = [[1, 22, 21, 23], [1, 10, 10, 900]]
    assert block_effects(base, head, dropped=1) == pytest.approx((math.log(2), -math.log(2)))


def test_a_rounds_effect_is_the_median_of_its_pairs() -> None:
    found = round_effects([(0.1, 0.3, 9.0), (0.2,), (), (0.1, math.nan), (math.inf, 0.1)])
    np.testing.assert_array_equal(found, [0.3, 0.2, math.nan, math.nan, math.nan])


@pytest.mark.parametrize(
    ("base", "head", "message"),
    [
        ([[1, 1]], [[1, 1], [1, 1]], "1 blocks of base and 2 of head"),
        ([], [], "0 blocks of base"),
        ([[1, 1]], [[1]], "a block of 1 iterations has none left when 1 are dropped"),
        ([[1, 0]], [[1, 1]], "a block's median is 0.0, not a duration"),
        ([[1, math.nan]], [[1, 1]], "NaN"),
    ],
)
def test_what_makes_no_pairs_is_refused(base: list[list[float]], head: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        block_effects(base, head, dropped=1)


@pytest.mark.parametrize("name", ["invalid", "outputs", "failed"])
def test_anything_that_stands_against_a_cell_makes_it_unmeasured(name: str) -> None:
    assert is_measured(effects())
    assert not is_measured(effects(**{name: ("something",)}))
