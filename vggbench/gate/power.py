"""What a gate could have found: the smallest slowdown that its rounds would have shown nine times in ten.

Numpy only. The rounds' own scatter is drawn from, with random signs, about a slowdown that is tried; the tries go
through the very test that the gate makes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vggbench.gate.records import Rule
from vggbench.stats import hodges_lehmann
from vggbench.stats.label_swap import ROUNDING, scores, swaps

Array = NDArray[np.float64]

POWER = 0.9
_TRIES = 256  # a power of 90 % is known to 2 points
_LARGEST = math.log(10)  # ten times slower: what is not found then never is
_HALVINGS = 12  # of that range: to 0.06 % of a latency


def others_maxima(table: Array) -> Array:
    """Return, of each cell, the largest statistic of the other cells under each swap: (cells, swaps).

    Minus infinity where there are none. `table` is (cells, rounds), less what is tolerated.
    """
    statistics = scores(table) @ swaps(table.shape[-1])
    if len(statistics) == 1:
        return np.full_like(statistics, -np.inf)
    upper, largest = np.sort(statistics, axis=0)[-2:]
    maxima: Array = np.where(statistics < largest, largest, upper)
    return maxima


def smallest_found(samples: Sequence[Array], rule: Rule, others: Array) -> float | None:
    """Return the relative slowdown that the gate would find with probability `POWER`; None if it never would.

    Args:
        samples: effects of the cell's rounds, one array a stage that was measured.
        rule: by which the gate decides.
        others: (swaps,), from `others_maxima`: what the first stage of this table holds the cell against.
    """
    noise = _noise(samples, sum(count for count, _ in rule.stages))
    if not _is_found(_LARGEST + noise, rule, others):
        return None
    tolerated = math.log1p(rule.tolerance)
    low, high = 0.0, _LARGEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _is_found(middle + noise, rule, others) else (middle, high)
    return math.expm1(tolerated + high)


def rounds_for_budget(mde90: float, rule: Rule) -> int | None:
    """Return how many first-stage rounds bring the smallest slowdown within the budget; None if these do.

    What can be found beyond the tolerance shrinks with the square root of the rounds.
    """
    if mde90 <= rule.budget:
        return None
    tolerated = math.log1p(rule.tolerance)
    ratio = (math.log1p(mde90) - tolerated) / (math.log1p(rule.budget) - tolerated)
    return math.ceil(rule.rounds * ratio**2)


def _noise(samples: Sequence[Array], rounds: int) -> Array:
    """Return tries of so many rounds without an effect: the samples' own deviations with random signs.

    Deviations from an estimate are smaller than from the truth, by sqrt(1 - 1 / n) in the mean square. Few of them know
    little of how large they are: each try has a scale of its own, drawn as that of normal values given their sample
    variance, sqrt((n - 1) / chi squared); else "nine times in ten" would be eight.
    """
    deviations = np.concatenate(
        [(sample - hodges_lehmann(sample)) / math.sqrt(1 - 1 / max(sample.size, 2)) for sample in samples]
    )
    random = np.random.default_rng(rounds)
    freedom = max(deviations.size - len(samples), 1)
    scales = np.sqrt(freedom / random.chisquare(freedom, (_TRIES, 1)))
    noise: Array = random.choice(deviations, (_TRIES, rounds)) * random.choice((-1.0, 1.0), (_TRIES, rounds))
    return scales * noise


def _is_found(effects: Array, rule: Rule, others: Array) -> bool:
    """Say whether enough of the tries, each the rounds of all stages, are found by every stage."""
    found, start = np.ones(len(effects), dtype=bool), 0
    for count, level in rule.stages:
        found &= _rejects(effects[:, start : start + count], level, others)
        start, others = start + count, np.array(-np.inf)  # the second stage has few cells, mostly one
    return bool(found.mean() >= POWER)


def _rejects(effects: Array, level: float, others: Array) -> NDArray[np.bool_]:
    scored = scores(effects)
    statistics = np.maximum(scored @ swaps(effects.shape[-1]), others)
    reached = (statistics >= scored.sum(axis=-1, keepdims=True) - ROUNDING).mean(axis=-1)
    rejected: NDArray[np.bool_] = reached <= level
    return rejected
