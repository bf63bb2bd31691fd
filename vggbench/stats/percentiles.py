"""Percentiles of the request latency over launches, and how many samples each of them needs. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from vggbench.stats.beta import binomial_at_most
from vggbench.stats.location import checked_sample, hodges_lehmann, signed_rank_interval

PROBABILITIES = (0.5, 0.9, 0.95, 0.99)
CONFIDENCE = 0.99  # MLPerf LoadGen's, in its early stopping


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentile:
    """A percentile of the request latency, in the unit of the samples.

    Attributes:
        probability: 0.99 for the p99.
        estimate: over launches whose samples all suffice, the Hodges-Lehmann estimate of the launches' percentiles;
            else the percentile of all samples together, where those suffice; else None.
        low, high: 95 % interval over launches; None where a launch has too few samples, or there are too few launches.
        launches: launches that it is of.
        samples: of the launch that has the fewest.
        samples_needed: of every launch, for an interval; of all together, for an estimate.
    """

    probability: float
    estimate: float | None
    low: float | None
    high: float | None
    launches: int
    samples: int
    samples_needed: int

    @property
    def why_no_interval(self) -> str:
        """Return what an interval lacks; empty if there is one."""
        if self.low is not None:
            return ""
        if self.samples < self.samples_needed:
            return (
                f"p{100 * self.probability:g}: {self.samples_needed} samples a round are needed, {self.samples} taken"
            )
        return f"p{100 * self.probability:g}: {self.launches} rounds are too few"


def percentiles(launches: Sequence[ArrayLike], probabilities: Sequence[float] = PROBABILITIES) -> list[Percentile]:
    """Return these percentiles of the samples of each launch, with their intervals over launches.

    The samples of one launch depend on one another and share its luck, so an interval over iterations is far too
    narrow. One over the launches' own percentiles is honest whatever the samples of a launch do among themselves, as
    long as a launch's percentile is itself unbiased: hence the floor on its samples, and the median-unbiased quantile
    (Hyndman and Fan's type 8, "Sample quantiles in statistical packages", The American Statistician 50 (1996)).
    Raises `ValueError` for no launches, a launch without samples, NaN or infinity, a probability not between 0 and 1.
    """
    samples = [checked_sample(launch) for launch in launches]
    if not samples:
        raise ValueError("there are no launches")
    return [_percentile(samples, probability) for probability in probabilities]


@lru_cache(maxsize=128)
def samples_needed(probability: float, *, confidence: float = CONFIDENCE) -> int:
    """Return how many samples show a percentile: 11 for the p50, 64 for the p90, 130 for the p95, 662 for the p99.

    MLPerf LoadGen's early stopping (`MinPassingQueriesFinder` in loadgen/early_stopping.cc, tolerance 0) takes t of
    n = h + t samples above a bound as proof that the percentile is below it, if so few would be above it with a
    probability of at most 1 - confidence were it not: I_p(h, t + 1) <= 1 - confidence, a binomial tail. In its single
    stream t is at least 1, since a bound with nothing above it would be the maximum; this returns the smallest n for
    t = 1. Raises `ValueError` for a probability or a confidence that is not between 0 and 1.
    """
    for name, value in (("probability", probability), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ValueError(f"a {name} is between 0 and 1, not {value}")
    fails, suffices = 1, 2
    while not _shows(suffices, probability, confidence):
        fails, suffices = suffices, 2 * suffices
    while suffices - fails > 1:
        middle = (fails + suffices) // 2
        if _shows(middle, probability, confidence):
            suffices = middle
        else:
            fails = middle
    return suffices


def _shows(samples: int, probability: float, confidence: float) -> bool:
    return binomial_at_most(1, samples, 1 - probability) <= 1 - confidence


def _percentile(launches: Sequence[np.ndarray], probability: float) -> Percentile:
    needed = samples_needed(probability)
    fewest = min(launch.size for launch in launches)
    estimate = interval = None
    if fewest >= needed:
        values = [_unbiased_quantile(launch, probability) for launch in launches]
        estimate, interval = hodges_lehmann(values), signed_rank_interval(values)
    elif sum(launch.size for launch in launches) >= needed:
        estimate = _unbiased_quantile(np.concatenate(launches), probability)
    low, high = interval or (None, None)
    return Percentile(
        probability=probability,
        estimate=estimate,
        low=low,
        high=high,
        launches=len(launches),
        samples=fewest,
        samples_needed=needed,
    )


def _unbiased_quantile(sample: np.ndarray, probability: float) -> float:
    return float(np.quantile(sample, probability, method="median_unbiased"))
