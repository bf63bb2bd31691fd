"""How far a further value may lie from a few earlier ones: Student's t, for runs whose level moves between them.

Standard library only. This one assumes normal values: of five runs no interval without an assumption is of any use,
since a sixth is beyond all of them in one case of three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean, stdev

from vggbench.stats.beta import regularized_beta


def t_at_least(t: float, freedom: int) -> float:
    """Return P(T >= t) of Student's t (Abramowitz and Stegun 26.7.1); `ValueError` without a degree of freedom."""
    if freedom < 1:
        raise ValueError(f"{freedom} degrees of freedom")
    square = t * t
    if square < freedom:  # the share that is nearer 0 is the exact one
        within = regularized_beta(square / (freedom + square), 0.5, freedom / 2) / 2
        return 0.5 - within if t >= 0 else 0.5 + within
    tail = regularized_beta(freedom / (freedom + square), freedom / 2, 0.5) / 2
    return tail if t >= 0 else 1 - tail


@lru_cache(maxsize=1024)
def t_quantile(tail: float, freedom: int) -> float:
    """Return the t that is reached with probability `tail`, of (0, 0.5]; `ValueError` outside of that."""
    if not 0 < tail <= 0.5:
        raise ValueError(f"a tail is above 0 and at most 0.5, not {tail}")
    low, high = 0.0, 1.0
    while t_at_least(high, freedom) > tail:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):  # until they are neighbouring floats
        low, high = (middle, high) if t_at_least(middle, freedom) > tail else (low, middle)
    return high


def prediction_scale(values: Sequence[float]) -> float:
    """Return the standard error of a further value about the mean of these: s sqrt(1 + 1 / n).

    G. J. Hahn and W. Q. Meeker, "Statistical Intervals" (1991), section 4.7. Raises `ValueError` for fewer than two.
    """
    if len(values) < 2:
        raise ValueError(f"{len(values)} values have no scatter")
    return stdev(values) * math.sqrt(1 + 1 / len(values))


def prediction_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return within what a further value lies with that confidence, if all are independent and normal alike."""
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence is between 0 and 1, not {confidence}")
    half = t_quantile((1 - confidence) / 2, len(values) - 1) * prediction_scale(values)
    middle = fmean(values)
    return middle - half, middle + half
